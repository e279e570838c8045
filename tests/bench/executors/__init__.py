"""Executors: ours beside those of the standard library and of joblib."""
