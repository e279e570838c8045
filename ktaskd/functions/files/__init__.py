"""Files as a whole: copy, allocate, compare, warm."""
