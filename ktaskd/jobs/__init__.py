"""What happens to a job, from accepted to ended."""
