"""Draws the pictures of the documentation: `python -m tests.pictures` writes docs/pictures."""
