"""Compression and decompression."""
