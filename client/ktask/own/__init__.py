"""The program's own code: the executor and its calls, and functions that are sent with a job."""
