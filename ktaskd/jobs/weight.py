"""Estimates the bytes of memory that the daemon holds for a job. Pure.

The numbers were measured with CPython 3.11 (`tests/jobs/test_weight.py` checks them) and rounded
up: no job may hold more than it is charged.
"""

from __future__ import annotations

from collections.abc import Iterable

from ktaskd.jobs.job import Job
from ktaskd.model.job import JobSpec
from ktaskd.model.spans import SPAN_BYTES

JOB_BYTES = 3 * 1024
"""An accepted job without texts, including its part of dispatch and watchers."""

ENDED_BYTES = 3 * 1024
"""An ended job without texts, of which only the record is left."""

RANGE_BYTES = 400
"""A range: in the request, in the plan, and in the cursor."""

ITEM_BYTES = 16
ITEM_SOURCE_BYTES = 400
"""An item; and an open source that items name, however often."""

TEXT_BYTES = 100
"""A text without its characters, with its entry in a dict."""

REMEMBERED_RANGE_BYTES = 200
REMEMBERED_ITEM_BYTES = 150
"""A range or an item of the remembered spec."""


def live_bytes(job: Job) -> int:
    """Return the bytes of an accepted job. Its results and its undo's needs are charged later, in pieces."""
    return live_bytes_of(job.spec, len(job.items), len(job.owned), len(job.checked.ranges))


def live_bytes_of(spec: JobSpec, items: int, sources: int, ranges: int) -> int:
    """Return the bytes of a job before it is accepted.

    Args:
        items: their number in all.
        sources: number of open descriptors that it will hold.
    """
    return (
        JOB_BYTES
        + _spec_bytes(spec)
        + ITEM_BYTES * items
        + ITEM_SOURCE_BYTES * sources
        + RANGE_BYTES * ranges
    )


def kept_bytes(job: Job) -> int:
    """Return the bytes of an ended job."""
    texts = [job.error.message, job.error.exception] if job.error is not None else []
    if job.owner.command.text:
        texts.append(job.owner.command.text)  # shared by the jobs of a connection, which may be only one
    # A combined result is held as Python objects, made of at most PART_BYTES_MAX of JSON.
    result = _text_bytes([repr(job.result)]) * 8 if job.result is not None else 0
    spans = SPAN_BYTES * (len(job.positions.undone) + len(job.positions.dirty))
    found = job.results_held_bytes + result + spans + _text_bytes(texts)
    return ENDED_BYTES + _spec_bytes(job.spec) + found + job.record.held_bytes


def _spec_bytes(spec: JobSpec) -> int:
    refs = [*spec.items, *spec.sources.values()]
    words = [word for ref in refs for word in (ref.handle, ref.path)]
    words += [ref.name for ref in refs if ref.name]
    words += [str(word) for pair in (*spec.labels.items(), *spec.arg.items()) for word in pair]
    remembered = REMEMBERED_ITEM_BYTES * len(refs) + REMEMBERED_RANGE_BYTES * len(spec.ranges)
    return remembered + _text_bytes([*words, *spec.sources, spec.request_id, spec.trace.state])


def _text_bytes(texts: Iterable[str]) -> int:
    """Return the bytes of texts and their entries. A character takes up to four bytes, but rarely."""
    return sum(TEXT_BYTES + len(text) * (1 if text.isascii() else 4) for text in texts)
