"""joblib's own tests, run with our backend; see `python -m tests.own.joblibs --help`."""
