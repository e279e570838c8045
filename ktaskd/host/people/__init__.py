"""People: the users of the machine, and when somebody last typed."""
