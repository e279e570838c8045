"""A Python plug-in, installed for real and run by workers."""
