"""Admission: who comes next at the loop, and how much each may hold."""
