"""Bodies that work on arrays of numbers."""
