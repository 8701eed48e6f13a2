"""Comparing rules fairly: what ``compare.py`` stands on."""
