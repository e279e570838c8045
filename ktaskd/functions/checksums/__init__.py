"""Bodies that compute checksums and digests."""
