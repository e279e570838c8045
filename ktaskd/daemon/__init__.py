"""Makes all parts of a daemon and runs their life. Nobody imports it."""
