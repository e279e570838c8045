"""The life of a job, from accepted to ended."""
