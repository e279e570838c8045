"""ktaskd: a daemon that runs parallel work on CPUs that nobody else wants."""

__version__ = "0.1.0"
