"""Code of the program's own: the executor, its calls, and functions sent with a job."""
