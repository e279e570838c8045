"""Checksums and digests."""
