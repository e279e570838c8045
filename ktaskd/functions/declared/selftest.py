"""Functions for tests of the daemon itself."""

from __future__ import annotations

from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_AT = Argument("at", ArgType.INT, 0, "The position at which the function misbehaves.", 0)

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
        Argument("ms", ArgType.FLOAT, 1.0, "CPU time to burn per position, in milliseconds.", 0, 3_600_000),
    ),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_FAIL = Declaration(
    name="selftest.fail",
    summary="Fails at one position and does nothing at the others.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("errno", ArgType.INT, 5, "The errno to fail with.", 1, 4095)),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_CRASH = Declaration(
    name="selftest.crash",
    summary="Kills its worker at one position and does nothing at the others.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("signal", ArgType.INT, 11, "The signal that kills the worker.", 1, 64)),
    # A poisoned chunk: run again elsewhere, it kills that worker too.
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_HANG = Declaration(
    name="selftest.hang",
    summary="Hangs at one position until its worker is killed; ignores recalls.",
    unit="unit",
    bytes_per_position=0,
    arguments=(_AT, Argument("cpu", ArgType.BOOL, False, "Burn CPU time instead of sleeping.")),
    partial=Partial.RERUN_SAFE,
    selftest=True,
)

_UNDO_LOG = Declaration(
    name="selftest.undo_log",
    summary="Adds 1 to every byte it processes and 16 to every byte it undoes, so that a test can see both.",
    sources=(SourceRole("data", Access.READ_WRITE, "The bytes to count in."),),
    arguments=(
        Argument("fail_at", ArgType.INT, -1, "The position at which it fails; -1 = nowhere.", -1),
        Argument("record", ArgType.INT, 1, "Size of one record; chunks are cut only between records.", 1),
        Argument(
            "delay_ms", ArgType.FLOAT, 0.0, "CPU time to burn per position, in milliseconds.", 0, 3_600_000
        ),
    ),
    # Running it twice adds 2, so it is not rerun_safe; but the undo can add 16 to bytes
    # that were not processed as well, and a test sees that it did.
    partial=Partial.UNDO_TOLERATES,
    writes_bytes=True,
    undo=True,
    undo_summary="Adds 16 to every byte, for tests of undo.",
    boundary="record",
    selftest=True,
)

DECLARATIONS = (_NOOP, _SPIN, _FAIL, _CRASH, _HANG, _UNDO_LOG)
