"""Code of the caller's own."""
