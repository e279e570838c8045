"""CPython's own tests of executors, run with ours; `python -m tests.own.cpython --help` says how."""
