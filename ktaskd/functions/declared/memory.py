"""Memory: fill, populate, copy, records."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, COPY_UNDO, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_PAGES = (
    " Tells how many of the pages are on which NUMA node: of all pages in a job of up to 16 MiB, of one "
    "in 128 KiB beyond that, and of none where a worker has not mapped the memory ({unmapped})."
)
_UNSEALED = "memory that is not sealed against shrinking, and files"

_MEM_FILL = Declaration(
    name="mem.fill",
    summary="Sets every byte to one value." + _PAGES.format(unmapped=_UNSEALED),
    align=PAGE,
    # About 0.5 ms of work on memory, against some 30 us to hand out a chunk.
    min_chunk=2 * MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.WRITE, "The memory or the file to fill."),),
    arguments=(Argument("value", ArgType.INT, 0, "The byte to write, 0 to 255.", 0, 255),),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    combine=True,
)

_MEM_POPULATE = Declaration(
    name="mem.populate",
    summary="Gives every page memory, on the node of its range, without changing a byte."
    + _PAGES.format(unmapped="which does not happen here"),
    align=PAGE,
    min_chunk=2 * MIB,
    probe=8 * MIB,
    sources=(
        # A page is allocated through a writable mapping, and those want both.
        SourceRole("data", Access.READ_WRITE, "The memory to populate.", memory_only=True),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
    undo=True,
    reports=True,
    undo_summary=(
        "Frees the pages that had no memory before and still read as zeros. Memory that was reserved with "
        "fallocate but never written counts as having none. Huge pages, and pages of which it cannot be "
        "known whether they had memory before, stay. No byte changes, unless somebody writes to a page at "
        "the very moment when it is freed: do not cancel a populate of memory that is in use already."
    ),
)

_MEM_COPY = Declaration(
    name="mem.copy",
    summary="Copies bytes to the same positions of other memory, holes included."
    + _PAGES.format(unmapped=_UNSEALED.replace(", and files", "")),
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(
        SourceRole("src", Access.READ, "Where the bytes come from.", memory_only=True),
        SourceRole("dst", Access.WRITE, "Where the bytes go to; made longer where needed.", memory_only=True),
    ),
    arguments=(CHANGED,),
    steady=True,
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    combine=True,
    undo=True,
    reports=True,
    undo_summary=COPY_UNDO,
    lifecycle=True,
)

_MEM_PATTERN = Declaration(
    name="mem.pattern",
    summary=(
        "Writes records one after the other, the first at position 0, numbered where that is wanted: byte p "
        "is byte p mod n of record p div n, whatever the ranges."
    )
    + _PAGES.format(unmapped=_UNSEALED.replace(", and files", "")),
    align=PAGE,
    min_chunk=2 * MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ_WRITE, "The memory to initialise.", memory_only=True),),
    arguments=(
        Argument("record", ArgType.STRING, None, "The bytes of one record in hex, 1 to 4096 of them."),
        Argument(
            "index_at",
            ArgType.INT,
            -1,
            "The byte of a record at which its number is put; -1 = nowhere.",
            -1,
            4095,
        ),
        Argument("index_bytes", ArgType.INT, 8, "Length of that number, 4 or 8; little-endian.", 4, 8),
        Argument("index_first", ArgType.INT, 0, "The number of the first record.", 0, 2**63 - 1),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    combine=True,
    undo=True,
    reports=True,
    undo_summary=(
        "What was a hole is a hole again. Data that was written over cannot be brought back: those ranges "
        "are dirty. Where it cannot be asked for the holes, blocks of zeros count as holes. A page of which "
        "only a part was written keeps its storage."
    ),
    lifecycle=True,
    needs=("numpy",),
)

DECLARATIONS = (_MEM_FILL, _MEM_POPULATE, _MEM_COPY, _MEM_PATTERN)
