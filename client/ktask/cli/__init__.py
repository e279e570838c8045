"""The `ktask` command: the library from a shell."""
