"""The bytes of the sources that a job is about."""

from __future__ import annotations

from itertools import islice

from ktaskd.jobs.job import Job

ITEMS_EXAMINED = 1000
"""Items whose lengths are added up; the others count as long as these on average. A job may have 100,000."""


def volume(job: Job) -> int:
    """Return the bytes that the whole job is about; 0 if it has ended."""
    return _bytes_of(job, job.plan.total)


def processed_bytes(job: Job) -> int:
    """Return the bytes that the job has processed, by the positions completed.

    For a job over whole files this is known only until its end, which closes the files; 0 afterwards.
    """
    return _bytes_of(job, job.completed)


def _bytes_of(job: Job, positions: int) -> int:
    if job.checked.position_bytes or not job.items:
        return positions * job.checked.position_bytes
    lengths = [item.facts.size for item in islice(job.items, ITEMS_EXAMINED)]
    return sum(lengths) * min(positions, len(job.items)) // len(lengths)
