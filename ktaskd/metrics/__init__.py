"""Figures about jobs and the daemon for a monitoring system: accounting, text, socket and file."""
