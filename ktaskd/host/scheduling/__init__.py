"""Priority and placement of processes on CPUs."""
