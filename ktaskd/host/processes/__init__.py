"""Processes and users: who they are, and what they leave behind."""
