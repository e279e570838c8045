"""Compressed files and streams: `ktask compress` and `ktask decompress`."""
