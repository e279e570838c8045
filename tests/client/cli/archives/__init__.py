"""Tests of compressed files and streams."""
