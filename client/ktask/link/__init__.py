"""The connection to a daemon: finding it, sessions, handing descriptors over, waiting for jobs."""
