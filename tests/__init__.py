"""Tests, mirrored path by path."""
