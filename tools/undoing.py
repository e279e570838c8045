"""A job that fails half-way and is undone, checked byte by byte."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

import ktask
from ktask.cli.text import fields

from tools.showcase import paint

_SIZE = 40_000
_FAIL_AT = 20_500
_CHUNK = 1_000
"""The job fails inside a chunk, with complete ones before it."""

_UNTOUCHED, _DONE, _UNDONE = 0, 1, 17
"""Processing adds 1 to a byte, and undoing adds another 16."""


def show_undo(client: ktask.Client) -> bool:
    """Run the job and print the outcome; returns whether all completed work was undone."""
    cpus = max(2, len(os.sched_getaffinity(0)))
    print(f"\nA job that fails at position {_FAIL_AT} of {_SIZE}: selftest.undo_log adds 1 to each byte,")
    print("and its undo adds 16.\n")
    with ktask.memory(_SIZE) as memory:
        try:
            client.run(
                "selftest.undo_log",
                arg={"fail_at": _FAIL_AT, "delay_ms": 0.002},
                data=memory,
                ranges=[(start, _CHUNK, -1) for start in range(0, _SIZE, _CHUNK)],
                max_threads=cpus,
            )
        except ktask.JobFailed as failed:
            return _show(failed.job, memory[:])
    print("the job did not fail")
    return False


def _show(job: ktask.Job, found: bytes) -> bool:
    error = job.error
    assert error is not None, "a failed job has an error"
    counts = Counter(found)
    right = judge(job.state, error, found)
    names = {_UNTOUCHED: "never touched", _DONE: "done and not undone", _UNDONE: "done and undone"}
    seen = ", ".join(f"{counts[value]} {name}" for value, name in names.items())
    if others := sum(count for value, count in counts.items() if value not in names):
        seen += f", {others} neither"
    rows: list[tuple[str, object]] = [
        ("state", job.state),
        ("reason", error.reason),
        ("message", error.message),
        ("chunk", f"{_spans([error.chunk] if error.chunk else [])}, undone by itself"),
        ("undone", _spans(error.undone)),
        ("dirty", _spans(error.dirty)),
        ("bytes", seen),
    ]
    print(fields(rows))
    print(f"check:   {paint('ok', 32) if right else paint('WRONG', 31)} every byte")
    return right


def judge(state: ktask.JobState, error: ktask.JobError, found: bytes) -> bool:
    """Whether exactly the spans that the job names were undone, and all others untouched.

    The chunk that failed has undone its own work as far as it had come, and nobody
    else touches it.
    """
    expected = bytearray(len(found))
    for span in error.undone:
        expected[span.start : span.end] = bytes([_UNDONE]) * (span.end - span.start)
    if error.chunk is not None:
        own = found[error.chunk.start : error.chunk.end]
        done = own.count(_UNDONE)
        expected[error.chunk.start : error.chunk.start + done] = bytes([_UNDONE]) * done
    complete = state is ktask.JobState.FAILED and bool(error.undone) and not error.dirty
    return complete and bytes(expected) == found


def _spans(spans: Iterable[ktask.Span]) -> str:
    return ", ".join(f"{span.start}-{span.end}" for span in spans) or "nothing"
