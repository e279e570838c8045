"""Descriptors from clients: received and checked by keepers, held as handles."""
