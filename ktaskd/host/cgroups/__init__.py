"""Control groups: how to find them, what they limit, and how to enter one."""
