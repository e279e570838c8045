"""Sizes and texts that several declarations share."""

from __future__ import annotations

from ktaskd.model.function import ArgType, Argument

PAGE = 4096
"""Alignment of byte functions' interior chunk edges, so that no two workers share a page."""

KIB = 1 << 10
MIB = 1 << 20

CHANGED = Argument(
    "changed",
    ArgType.STRING,
    "warn",
    "Action if a source changes (length, mtime or ctime) while the job reads it: add a warning to the job "
    "(warn), or let the job fail (fail). Stores through a mapping may go unnoticed.",
    choices=("warn", "fail"),
)
"""The argument of functions that are steady."""

COPY_UNDO = (
    "Turns former holes of dst into holes again, and gives dst its old length back. Overwritten data of "
    "dst cannot be restored: those ranges are dirty. If the holes of dst are not known, blocks of zeros "
    "count as holes. A page that was only partly overwritten keeps its storage."
)
