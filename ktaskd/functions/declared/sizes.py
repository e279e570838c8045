"""Sizes that several declarations share."""

from __future__ import annotations

PAGE = 4096
"""Interior edges of byte functions: no page is shared by two workers."""

KIB = 1 << 10
MIB = 1 << 20
