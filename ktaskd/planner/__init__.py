"""Decides how many workers a job gets, and which positions each of them processes. Pure."""
