"""joblib's own tests, run with our backend; `python -m tests.own.joblibs --help` says how."""
