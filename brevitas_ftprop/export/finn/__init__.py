"""From an exported model to FINN, and proof that the hardware computes what was trained."""
