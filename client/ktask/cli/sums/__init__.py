"""Checksums of files and lists of them: `ktask sum`, and the parts that `ktask verify` shares with it."""
