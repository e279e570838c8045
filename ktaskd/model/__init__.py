"""The words of the project as frozen dataclasses. Knows no other room."""
