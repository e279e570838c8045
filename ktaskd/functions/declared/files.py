"""Files: copy, allocate, punch, page cache, compare."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, COPY_UNDO, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_FILE_COPY = Declaration(
    name="file.copy",
    summary=(
        "Copies bytes to the same positions of another file or memory, holes included, and returns how "
        "many. With checksum, it also returns the CRC-32 of the copied bytes, as file.crc32 computes it."
    ),
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    quantum=4 * MIB,
    sources=(
        SourceRole("src", Access.READ, "The file or memory to copy from."),
        SourceRole(
            "dst", Access.WRITE, "The file or memory to copy to; extended if needed.", one_writer=True
        ),
    ),
    arguments=(
        Argument(
            "checksum",
            ArgType.BOOL,
            False,
            "Compute a CRC-32 while copying; the bytes are then read even if the kernel could copy them.",
        ),
        CHANGED,
    ),
    steady=True,
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    reports=True,
    undo_summary=COPY_UNDO,
    combine=True,
    lifecycle=True,
)

_FILE_ALLOCATE = Declaration(
    name="file.allocate",
    summary=(
        "Reserves storage like fallocate(1): no byte changes, and later writes there cannot run out of "
        "space. Ranges may reach beyond the end of the file, which is then extended."
    ),
    align=PAGE,
    min_chunk=16 * MIB,
    probe=64 * MIB,
    quantum=64 * MIB,
    # Reserving needs no right to read, but the undo reads to find zeros.
    sources=(SourceRole("data", Access.READ_WRITE, "The file or the memory to reserve storage for."),),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    grows=True,
    undo=True,
    reports=True,
    undo_summary=(
        "Frees the parts that had no storage before and still read as zeros, and restores the old length "
        "unless somebody has written beyond it. In memory, pages that were reserved but never written count "
        "as having no storage. Huge pages stay allocated, and so do parts that the file system does not "
        "report, and everything on a file system without holes. A file that is sealed against shrinking "
        "keeps its new length, and its new end is dirty."
    ),
    lifecycle=True,
)

_FILE_PUNCH = Declaration(
    name="file.punch",
    summary=(
        "Makes holes: the bytes read as zeros and their storage is freed. On hugetlbfs only whole huge "
        "pages of up to 2 MiB are freed; everything else is overwritten with zeros."
    ),
    align=2 * MIB,
    min_chunk=16 * MIB,
    probe=64 * MIB,
    quantum=8 * MIB,
    sources=(SourceRole("data", Access.WRITE, "The file or the memory to make holes in."),),
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
)

_FILE_WARM = Declaration(
    name="file.warm",
    summary=(
        "Reads data into the page cache, up to a window, so that it does not evict itself; or drops it from "
        "there. Returns the bytes handled (bytes), the bytes beyond the window (skipped), and the bytes that "
        "were in memory before and after (resident_before, resident_after). Those are null if the kernel "
        "does not report them: before Linux 6.5, and for a file that was opened only for reading and that "
        "the worker's user could not open for writing."
    ),
    align=PAGE,
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=2 * MIB,
    sources=(SourceRole("data", Access.READ, "The file to read into the page cache."),),
    arguments=(
        Argument(
            "drop", ArgType.BOOL, False, "Drop the file from the page cache; dirty and mapped pages stay."
        ),
        Argument(
            "window",
            ArgType.INT,
            0,
            "Most bytes to read, counted from the job's first position, or in each item; 0 = three quarters "
            "of the available memory.",
            0,
            2**63 - 1,
        ),
    ),
    partial=Partial.RERUN_SAFE,
    combine=True,
    items=True,
)

_FILE_COMPARE = Declaration(
    name="file.compare",
    summary=(
        "Compares two files or memory like cmp(1): whether they are equal (equal), and the first position "
        "where they differ (first_difference). Without ranges, the lengths must be equal as well: a shorter "
        "source differs at its end."
    ),
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=2 * MIB,
    sources=(
        SourceRole("a", Access.READ, "The first file or memory; ranges refer to it."),
        SourceRole("b", Access.READ, "The second file or memory."),
    ),
    arguments=(CHANGED,),
    steady=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
)

DECLARATIONS = (_FILE_COPY, _FILE_ALLOCATE, _FILE_PUNCH, _FILE_WARM, _FILE_COMPARE)
