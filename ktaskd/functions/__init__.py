"""What can be done to a chunk. Declarations stand apart from bodies.

`catalogue` has the declarations and imports no body; `bodies` finds the body
of a name and is imported by workers only.
"""
