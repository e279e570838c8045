"""Files as a whole: copy, storage, page cache, comparing."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, COPY_UNDO, MIB, PAGE
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_FILE_COPY = Declaration(
    name="file.copy",
    summary=(
        "Copies bytes to the same positions of another file or memory, holes included, and tells how many. "
        "With checksum also the CRC-32 of what was copied, taken on the way, as file.crc32 has it of src."
    ),
    align=PAGE,
    min_chunk=MIB,
    probe=4 * MIB,
    sources=(
        SourceRole("src", Access.READ, "Where the bytes come from."),
        SourceRole("dst", Access.WRITE, "Where the bytes go to; made longer where needed."),
    ),
    arguments=(
        Argument(
            "checksum", ArgType.BOOL, False, "Read all bytes, where the kernel could copy them by itself."
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
        "Reserves storage, as fallocate(1) does: no byte changes, and writing there finds the space. Ranges "
        "may reach beyond the end; the file is made that long."
    ),
    align=PAGE,
    min_chunk=16 * MIB,
    probe=64 * MIB,
    # To write needs no right to read, but its undo looks whether there are zeros.
    sources=(SourceRole("data", Access.READ_WRITE, "The file or the memory to reserve storage for."),),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    grows=True,
    undo=True,
    reports=True,
    undo_summary=(
        "Frees what had no storage before and still reads as zeros, and gives the old length back unless "
        "somebody has written beyond it. Of memory, what was reserved but never written counts as having "
        "none. Huge pages stay, and so does what no file system's map tells of; where a file system makes no "
        "holes, all does. What is sealed against shrinking keeps its new length, which is named as dirty."
    ),
    lifecycle=True,
)

_FILE_PUNCH = Declaration(
    name="file.punch",
    summary=(
        "Makes holes: the bytes read as zeros and their storage is freed. Of hugetlbfs whole huge pages are "
        "freed where 2 MiB hold them, and zeros are written into all else."
    ),
    align=2 * MIB,
    min_chunk=16 * MIB,
    probe=64 * MIB,
    sources=(SourceRole("data", Access.WRITE, "The file or the memory to make holes in."),),
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
)

_FILE_WARM = Declaration(
    name="file.warm",
    summary=(
        "Reads data into the page cache, no more than a window of it, so that it does not push itself out; "
        "or drops it from there. Tells the bytes handled, those beyond the window (skipped), and those that "
        "were in memory before and after, null where the kernel does not say: before Linux 6.5, and of a "
        "file that was opened for reading and that the worker's user could not open for writing."
    ),
    align=PAGE,
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ, "The file to read ahead of its use."),),
    arguments=(
        Argument("drop", ArgType.BOOL, False, "Drop it instead; dirty and mapped pages stay."),
        Argument(
            "window",
            ArgType.INT,
            0,
            "Bytes from the job's first position on, or of each item, beyond which nothing is read; 0 = "
            "three quarters of the memory that is available.",
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
        "Compares two files or memory, as cmp(1) does: whether they are equal, and the first position where "
        "they are not. Without ranges the lengths count as well; where one is shorter, that is at its end."
    ),
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(
        SourceRole("a", Access.READ, "The one; ranges are of this one."),
        SourceRole("b", Access.READ, "The other one."),
    ),
    arguments=(CHANGED,),
    steady=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
)

DECLARATIONS = (_FILE_COPY, _FILE_ALLOCATE, _FILE_PUNCH, _FILE_WARM, _FILE_COMPARE)
