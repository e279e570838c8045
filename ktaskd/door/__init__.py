"""Identifies callers, and receives the file descriptors that they hand over."""
