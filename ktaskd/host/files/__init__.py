"""Files and file systems: storage, mounts, flags, trust."""
