"""The `ktask` command."""
