"""Power supplies, batteries and temperatures."""
