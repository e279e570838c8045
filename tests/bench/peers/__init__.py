"""The same work by ktaskd, by other programs, and by bare processes: ratios from one run."""
