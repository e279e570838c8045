"""What each built-in thread function declares of itself, by subject.

Imports no body: `bodies` has those, and workers alone load it.
"""
