"""The backends; each computes what the formulas of :mod:`.eager` say, in its own way."""
