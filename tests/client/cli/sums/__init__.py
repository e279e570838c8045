"""Tests of checksums and lists of them."""
