"""Memory: fill, populate, copy, records."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, COPY_UNDO, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_PAGES = (
    " Returns how many pages are on each NUMA node (pages): of all pages in a job of up to 16 MiB, of one "
    "page in 128 KiB or more in a larger one (at most 8192 in all), and of none if the workers do not map "
    "the memory ({unmapped})."
)
_UNSEALED = "memory that is not sealed against shrinking, and files"

_MEM_FILL = Declaration(
    name="mem.fill",
    summary="Sets every byte to one value. With 0, holes stay holes." + _PAGES.format(unmapped=_UNSEALED),
    align=PAGE,
    # About 0.5 ms of work on memory, against some 30 us to hand out a chunk.
    min_chunk=2 * MIB,
    probe=8 * MIB,
    quantum=2 * MIB,
    sources=(SourceRole("data", Access.WRITE, "The memory or the file to fill.", one_writer=True),),
    arguments=(Argument("value", ArgType.INT, 0, "The byte to write, 0 to 255.", 0, 255),),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    combine=True,
)

_MEM_POPULATE = Declaration(
    name="mem.populate",
    summary="Allocates every page on the node of its range, without changing a byte."
    + _PAGES.format(unmapped="which does not happen here"),
    align=PAGE,
    min_chunk=2 * MIB,
    probe=8 * MIB,
    quantum=4 * MIB,
    sources=(
        # A page is allocated through a writable mapping, which needs both rights.
        SourceRole("data", Access.READ_WRITE, "The memory to populate.", memory_only=True),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
    undo=True,
    reports=True,
    undo_summary=(
        "Frees the pages that were not allocated before and still read as zeros. Before Linux 6.5, pages "
        "that were reserved with fallocate but never written count as not allocated. Huge pages stay "
        "allocated, and so do pages whose former state is not known. No byte changes, unless somebody "
        "writes to a page at the moment when it is freed: do not cancel a populate of memory that is "
        "already in use."
    ),
)

_MEM_COPY = Declaration(
    name="mem.copy",
    summary="Copies bytes to the same positions of other memory, holes included."
    + _PAGES.format(unmapped=_UNSEALED.replace(", and files", "")),
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    quantum=4 * MIB,
    sources=(
        SourceRole("src", Access.READ, "The memory to copy from.", memory_only=True),
        SourceRole("dst", Access.WRITE, "The memory to copy to; extended if needed.", memory_only=True),
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
        "Writes consecutive records of n bytes, optionally numbered. The first begins at position 0: byte p "
        "is byte p mod n of record p div n, whatever the ranges are."
    )
    + _PAGES.format(unmapped=_UNSEALED.replace(", and files", "")),
    align=PAGE,
    min_chunk=2 * MIB,
    probe=8 * MIB,
    quantum=2 * MIB,
    sources=(SourceRole("data", Access.READ_WRITE, "The memory to initialise.", memory_only=True),),
    arguments=(
        Argument("record", ArgType.STRING, None, "The bytes of one record in hex, 1 to 4096 bytes."),
        Argument(
            "index_at",
            ArgType.INT,
            -1,
            "Offset of the record's number inside the record; -1 = no number.",
            -1,
            4095,
        ),
        Argument("index_bytes", ArgType.INT, 8, "Bytes of the number, 4 or 8; little-endian.", 4, 8),
        Argument("index_first", ArgType.INT, 0, "Number of the first record.", 0, 2**63 - 1),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    combine=True,
    undo=True,
    reports=True,
    undo_summary=(
        "Turns former holes into holes again. Overwritten data cannot be restored: those ranges are dirty. "
        "If the holes are not known, blocks of zeros count as holes. A page that was only partly overwritten "
        "keeps its storage."
    ),
    lifecycle=True,
    needs=("numpy",),
)

DECLARATIONS = (_MEM_FILL, _MEM_POPULATE, _MEM_COPY, _MEM_PATTERN)
