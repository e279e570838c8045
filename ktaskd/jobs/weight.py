"""The weight of a job: the bytes that the daemon holds for it. Pure.

Measured with CPython 3.11 (`tests/jobs/test_weight.py` looks whether it still
holds), and rounded up: what is charged must not be less than what is held.
"""

from __future__ import annotations

from collections.abc import Iterable

from ktaskd.jobs.job import Job
from ktaskd.model.job import JobSpec
from ktaskd.model.spans import SPAN_BYTES

JOB_BYTES = 3 * 1024
"""An accepted job without texts, and what dispatch and watchers hold of it."""

ENDED_BYTES = 3 * 1024
"""The same when it has ended and only its record is left."""

RANGE_BYTES = 400
"""A range: as it was asked for, its share of the plan, and where its chunks are cut."""

ITEM_BYTES = 16
ITEM_SOURCE_BYTES = 400
"""An item, and an open source that items name, however often."""

TEXT_BYTES = 100
"""A text beside its characters, with its place in a dict."""

TOLD_RANGE_BYTES = 200
TOLD_ITEM_BYTES = 150
"""A range and an item of the remembered spec."""


def live_bytes(job: Job) -> int:
    """Of an accepted job; its results and what its undo needs come later, piece by piece."""
    return live_bytes_of(job.spec, len(job.items), len(job.owned), len(job.checked.ranges))


def live_bytes_of(spec: JobSpec, items: int, sources: int, ranges: int) -> int:
    """The same of a job that is to be accepted.

    Args:
        items: how many it has in all.
        sources: open descriptors that it will hold.
    """
    return (
        JOB_BYTES
        + _spec_bytes(spec)
        + ITEM_BYTES * items
        + ITEM_SOURCE_BYTES * sources
        + RANGE_BYTES * ranges
    )


def kept_bytes(job: Job) -> int:
    """Of a job that has ended."""
    texts = [job.error.message, job.error.exception] if job.error is not None else []
    # A combined result is Python's objects, of a JSON of at most PART_BYTES_MAX.
    result = _text_bytes([repr(job.result)]) * 8 if job.result is not None else 0
    spans = SPAN_BYTES * (len(job.positions.undone) + len(job.positions.dirty))
    found = job.results_held_bytes + result + spans + _text_bytes(texts)
    return ENDED_BYTES + _spec_bytes(job.spec) + found


def _spec_bytes(spec: JobSpec) -> int:
    refs = [*spec.items, *spec.sources.values()]
    words = [word for ref in refs for word in (ref.handle, ref.path)]
    words += [str(word) for pair in (*spec.labels.items(), *spec.arg.items()) for word in pair]
    told = TOLD_ITEM_BYTES * len(refs) + TOLD_RANGE_BYTES * len(spec.ranges)
    return told + _text_bytes([*words, *spec.sources, spec.request_id])


def _text_bytes(texts: Iterable[str]) -> int:
    """Of texts and their places; characters take up to four bytes, and most texts have none that do."""
    return sum(TEXT_BYTES + len(text) * (1 if text.isascii() else 4) for text in texts)
