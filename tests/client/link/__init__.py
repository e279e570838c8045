"""Finding, trusting and using a connection to a daemon."""
