"""How many helpers may run now, and why."""
