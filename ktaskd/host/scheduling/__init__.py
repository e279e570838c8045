"""Priorities of processes, and the CPUs they run on."""
