"""The declarations of the built-in thread functions, in modules named as the packages of their bodies.

Imports no body: only workers load `bodies`.
"""
