"""Code of the user's own in workers: executors, functions, joblib."""
