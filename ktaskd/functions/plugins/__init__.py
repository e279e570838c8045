"""Functions from installed packages and from an administrator's libraries."""
