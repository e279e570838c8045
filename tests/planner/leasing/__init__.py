"""A simulation of how jobs are shared out: leases, and beside them the chunks that they have replaced."""
