"""Bodies that work on files: copy, allocate, punch, compare, warm."""
