"""Bodies that work on memory: fill, populate, records; and on which NUMA node its pages are."""
