"""The sizes of chunks, by the time that they take."""

from __future__ import annotations

from ktaskd.jobs.job import Job
from ktaskd.model.limits import (
    CHUNK_TIME_ALONE_S,
    CHUNK_TIME_DETACHED_S,
    CHUNK_TIME_TARGET_S,
    SHORT_CHUNK_S,
)


def next_size(job: Job, *, lead: bool = False, alone: bool = False) -> int:
    """Return how many positions the next chunk should have at the rate measured so far.

    Args:
        alone: no other job wants workers, and helpers may work all of the time.
    """
    if job.has_leases:
        return job.left
    rate = job.rate(lead=lead)
    if not rate:
        return job.plan.probe
    # Chunks get smaller towards the end, so that all workers end together.
    share = -(-job.left // (2 * job.threads))
    patient_s = CHUNK_TIME_ALONE_S if alone else CHUNK_TIME_DETACHED_S
    target_s = CHUNK_TIME_TARGET_S if job.waited else patient_s
    wanted = max(min(int(rate * target_s), share), int(rate * SHORT_CHUNK_S))
    return min(max(wanted, job.plan.min_chunk), job.plan.chunk)
