"""The connection to a daemon: finding it, sessions, descriptors, jobs that are waited for."""
