"""The vocabulary of the project as frozen dataclasses. Imports no other package."""
