"""Experiments: what the papers claim, run again on this package."""
