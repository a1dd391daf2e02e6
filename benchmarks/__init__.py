"""Measurements of nearline against its rivals; each script is run as `python benchmarks/<name>.py` from the root."""
