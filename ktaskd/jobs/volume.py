"""The bytes that a job has processed."""

from __future__ import annotations

from itertools import islice

from ktaskd.jobs.job import Job

ITEMS_EXAMINED = 1000
"""Items whose lengths are added up; the others count as long as these on average. A job may have 100,000."""


def processed_bytes(job: Job) -> int:
    """Return the bytes of its sources that the job has processed, by the positions completed.

    For a job over whole files this is known only until its end, which closes the files; 0 afterwards.
    """
    unit = job.checked.position_bytes
    if unit or not job.items or not job.completed:
        return job.completed * unit
    lengths = [item.facts.size for item in islice(job.items, ITEMS_EXAMINED)]
    return sum(lengths) * min(job.completed, len(job.items)) // len(lengths)
