"""Watches a job: a snapshot, changes, results in order, and the final state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.convert import job_out
from ktaskd.api.herald import Herald
from ktaskd.api.structs import struct_out
from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.errors import JobUnknown
from ktaskd.model.limits import RESULTS_BYTES_SENT, RESULTS_SENT

PROGRESS_S = 0.1
"""Shortest time between two messages of a watch that report only progress."""


async def follow(job: Job, after: int, herald: Herald, account: int) -> AsyncIterator[pb.WatchResponse]:
    """Make the messages of a watch.

    They are made one at a time, with bounded size, so nothing is queued for a slow reader.

    Args:
        after: results up to this version are left out.
        account: pays for the messages.
    Raises:
        JobUnknown: the job was forgotten before all its results were read.
    """
    position = 0
    with herald.changes(job, account) as changed:
        while True:
            changed.clear()
            if position < job.item_results.dropped:
                raise JobUnknown(f'id "{job.id}": forgotten before the watch had read all its results')
            position = max(position, job.item_results.place_after(after))
            message, position = _message(job, position)
            yield message
            if message.final:
                return
            if position == len(job.item_results):
                await _next_change(job, changed)


def _message(job: Job, position: int) -> tuple[pb.WatchResponse, int]:
    """Return the job's state with its next results, and the position behind those."""
    found = job.item_results.batch(position, RESULTS_BYTES_SENT, RESULTS_SENT)
    position += len(found)
    left = position < len(job.item_results)
    final = job.state.ended and not left
    message = pb.WatchResponse(
        # With results left, a reader that resumes from here must get them.
        sequence=job.item_results.version_at(position - 1) if left else job.version,
        job=job_out(job, with_items=final),
        results=[pb.ItemResult(index=index, result=struct_out(result)) for index, result in found],
        final=final,
    )
    return message, position


async def _next_change(job: Job, changed: asyncio.Event) -> None:
    """Wait for a change, or for progress to report."""
    while True:
        before = view.progress(job)
        try:
            timeout = PROGRESS_S if job.crew.busy else None
            await asyncio.wait_for(changed.wait(), timeout)
            return
        except TimeoutError:
            if view.progress(job) != before:
                return
