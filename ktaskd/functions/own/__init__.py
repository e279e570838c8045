"""Bodies that run the caller's own code."""
