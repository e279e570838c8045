"""Puts the house together and runs its life. Nobody imports it."""
