"""What several declarations share."""

from __future__ import annotations

from ktaskd.model.function import ArgType, Argument

PAGE = 4096
"""Interior edges of byte functions: no page is shared by two workers."""

KIB = 1 << 10
MIB = 1 << 20

CHANGED = Argument(
    "changed",
    ArgType.STRING,
    "warn",
    "What becomes of the job where a source changes while it is read (its length, mtime or ctime): it "
    "carries a warning (warn), or fails (fail). Stores through a mapping may not be noticed.",
    choices=("warn", "fail"),
)
"""Of functions that are steady."""

COPY_UNDO = (
    "What was a hole or lay beyond the end of dst is a hole or gone again, and dst has its old length. "
    "Data of dst that was copied over cannot be brought back: those ranges are dirty. Where it cannot be "
    "asked for the holes of dst, blocks of zeros count as holes. A page of which only a part was copied "
    "keeps its storage."
)
