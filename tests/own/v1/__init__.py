"""The contract between clients and workers for code of the user's own."""
