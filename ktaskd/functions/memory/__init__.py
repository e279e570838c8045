"""Memory: fill, populate, records, placement."""
