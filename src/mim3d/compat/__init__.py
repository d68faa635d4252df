"""Readers of other programs' weights."""
