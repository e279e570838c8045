"""Control groups: which there are, and what they limit."""
