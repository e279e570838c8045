"""For tests of the daemon itself."""

from __future__ import annotations

from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

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

DECLARATIONS = (_NOOP, _SPIN, _FAIL, _CRASH, _HANG, _UNDO_LOG)
