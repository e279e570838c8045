"""Processes: what one is to the kernel, what is below it, and what it gives up."""
