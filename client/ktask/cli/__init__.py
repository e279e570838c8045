"""The `ktask` command: the library for the shell."""
