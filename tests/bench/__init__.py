"""Measurements of this machine: `python -m tests.bench`."""
