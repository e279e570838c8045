"""Callers: who connects, and which account pays."""
