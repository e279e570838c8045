"""Functions of installed packages and of an administrator's libraries."""
