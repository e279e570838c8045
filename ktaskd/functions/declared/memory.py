"""Memory: fill, populate."""

from __future__ import annotations

from ktaskd.functions.declared.sizes import MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_MEM_FILL = Declaration(
    name="mem.fill",
    summary="Sets every byte to one value.",
    align=PAGE,
    # About 0.5 ms of work on memory, against some 30 us to hand out a chunk.
    min_chunk=2 * MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.WRITE, "The memory or the file to fill."),),
    arguments=(Argument("value", ArgType.INT, 0, "The byte to write, 0 to 255.", 0, 255),),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
)

_MEM_POPULATE = Declaration(
    name="mem.populate",
    summary="Gives every page memory, on the node of its range, without changing a byte.",
    align=PAGE,
    min_chunk=2 * MIB,
    probe=8 * MIB,
    sources=(
        # A page is allocated through a writable mapping, and those want both.
        SourceRole("data", Access.READ_WRITE, "The memory to populate.", memory_only=True),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    undo=True,
    reports=True,
    undo_summary=(
        "Frees the pages that had no memory before and still read as zeros. Memory that was reserved with "
        "fallocate but never written counts as having none. Huge pages, and pages of which it cannot be "
        "known whether they had memory before, stay. No byte changes, unless somebody writes to a page at "
        "the very moment when it is freed: do not cancel a populate of memory that is in use already."
    ),
)

DECLARATIONS = (_MEM_FILL, _MEM_POPULATE)
