"""From a request to an accepted job: what is checked, and what is refused."""
