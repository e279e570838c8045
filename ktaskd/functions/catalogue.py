"""The declarations of the built-in thread functions.

All that the daemon needs to know of them. Imports no body: `bodies` has those,
and workers alone load it. A test holds the two lists against each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

PAGE = 4096
"""Interior edges of byte functions: no page is shared by two workers."""

_MIB = 1 << 20

_MEM_FILL = Declaration(
    name="mem.fill",
    summary="Sets every byte to one value.",
    align=PAGE,
    # About 0.5 ms of work on memory, against some 30 us to hand out a chunk.
    min_chunk=2 * _MIB,
    probe=8 * _MIB,
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
    min_chunk=2 * _MIB,
    probe=8 * _MIB,
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

_FILE_CRC32 = Declaration(
    name="file.crc32",
    summary="Computes the CRC-32 of the bytes, the same as zlib.crc32.",
    min_chunk=_MIB,
    probe=8 * _MIB,
    sources=(SourceRole("data", Access.READ, "The file or the memory to read."),),
    partial=Partial.RERUN_SAFE,
    combine=True,
    items=True,
)

_FILE_COPY = Declaration(
    name="file.copy",
    summary="Copies bytes to the same positions of another file or memory, holes included.",
    align=PAGE,
    min_chunk=_MIB,
    probe=4 * _MIB,
    sources=(
        SourceRole("src", Access.READ, "Where the bytes come from."),
        SourceRole("dst", Access.WRITE, "Where the bytes go to; made longer where needed."),
    ),
    allocates=True,
    partial=Partial.RERUN_SAFE,
    writes_bytes=True,
    undo=True,
    reports=True,
    undo_summary=(
        "What was a hole or lay beyond the end of dst is a hole or gone again, and dst has its old length. "
        "Data of dst that was copied over cannot be brought back: those ranges are dirty. Where it cannot be "
        "asked for the holes of dst, blocks of zeros count as holes."
    ),
    lifecycle=True,
)

_AT = Argument("at", ArgType.INT, 0, "The position at which it happens.", 0)

_NOOP = Declaration(
    name="selftest.noop",
    summary="Does nothing.",
    unit="unit",
    bytes_per_position=0,
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_SPIN = Declaration(
    name="selftest.spin",
    summary="Burns CPU time at every position.",
    unit="unit",
    bytes_per_position=0,
    arguments=(
        Argument(
            "ms", ArgType.FLOAT, 1.0, "CPU time of the worker per position, in milliseconds.", 0, 3_600_000
        ),
    ),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_FAIL = Declaration(
    name="selftest.fail",
    summary="Fails at one position, does nothing at the others.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("errno", ArgType.INT, 5, "The errno to fail with.", 1, 4095)),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_CRASH = Declaration(
    name="selftest.crash",
    summary="Kills its worker at one position, does nothing at the others.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("signal", ArgType.INT, 11, "The signal that kills it.", 1, 64)),
    # Run again elsewhere, it kills that worker too: what a poisoned chunk does.
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_HANG = Declaration(
    name="selftest.hang",
    summary="Never comes back from one position, whatever it is told, until it is killed.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("cpu", ArgType.BOOL, False, "Burn CPU time instead of sleeping.")),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_UNDO_LOG = Declaration(
    name="selftest.undo_log",
    summary="Adds 1 to every byte it processes and 16 to every byte it undoes, so that both can be read.",
    sources=(SourceRole("data", Access.READ_WRITE, "The bytes that count."),),
    arguments=(
        Argument("fail_at", ArgType.INT, -1, "The position at which it fails; -1 = nowhere.", -1),
        Argument("record", ArgType.INT, 1, "Size of one record: chunks are cut between records only.", 1),
        Argument(
            "delay_ms", ArgType.FLOAT, 0.0, "CPU time burnt per position, in milliseconds.", 0, 3_600_000
        ),
    ),
    # Adding twice is not adding once, so it is not rerun_safe; but 16 can be
    # added to bytes that were not processed too, and tells so.
    partial=Partial.UNDO_TOLERATES,
    writes_bytes=True,
    undo=True,
    undo_summary="Adds 16 to every byte; for tests of the undo itself.",
    boundary="record",
    selftest=True,
)

CATALOGUE: Mapping[str, Declaration] = {
    declaration.name: declaration
    for declaration in (
        _MEM_FILL,
        _MEM_POPULATE,
        _FILE_CRC32,
        _FILE_COPY,
        _NOOP,
        _SPIN,
        _FAIL,
        _CRASH,
        _HANG,
        _UNDO_LOG,
    )
}
"""All of them by name, those for self-tests included."""


def declarations(selftest: bool) -> Mapping[str, Declaration]:
    """What a daemon offers: all with `selftest`, else those that are not for tests."""
    return {name: item for name, item in CATALOGUE.items() if selftest or not item.selftest}
