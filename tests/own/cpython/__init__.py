"""CPython's own tests of executors, run with ours; see `python -m tests.own.cpython --help`."""
