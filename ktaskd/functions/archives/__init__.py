"""Bodies that compress and decompress files."""
