"""What several declarations share."""

from __future__ import annotations

PAGE = 4096
"""Interior edges of byte functions: no page is shared by two workers."""

KIB = 1 << 10
MIB = 1 << 20

COPY_UNDO = (
    "What was a hole or lay beyond the end of dst is a hole or gone again, and dst has its old length. "
    "Data of dst that was copied over cannot be brought back: those ranges are dirty. Where it cannot be "
    "asked for the holes of dst, blocks of zeros count as holes. A page of which only a part was copied "
    "keeps its storage."
)
