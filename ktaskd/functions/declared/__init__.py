"""The declarations of the built-in thread functions, by the same subjects as the rooms of bodies.

Imports no body: only workers load `bodies`, which has those.
"""
