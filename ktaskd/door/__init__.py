"""Who is calling, and which file descriptors they gave us."""
