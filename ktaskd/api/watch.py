"""A watch of a job: snapshot, changes, ordered results, final."""

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
"""Shortest time between two messages of a watch that tell nothing but progress."""


async def follow(job: Job, after: int, herald: Herald, account: int) -> AsyncIterator[pb.WatchResponse]:
    """The messages of a watch.

    One is made at a time, of bounded size: nothing is queued for a slow reader.

    Args:
        after: results up to this version are left out.
        account: whose turn the messages are made in.
    Raises:
        JobUnknown: the job was forgotten before all its results were read.
    """
    place = 0
    with herald.changes(job, account) as changed:
        while True:
            changed.clear()
            if place < job.item_results.dropped:
                raise JobUnknown(f'id "{job.id}": forgotten while it was watched, before all was read')
            place = max(place, job.item_results.place_after(after))
            message, place = _message(job, place)
            yield message
            if message.final:
                return
            if place == len(job.item_results):
                await _next_change(job, changed)


def _message(job: Job, place: int) -> tuple[pb.WatchResponse, int]:
    """The job as it is with its next results; and the place behind those."""
    found = job.item_results.batch(place, RESULTS_BYTES_SENT, RESULTS_SENT)
    place += len(found)
    left = place < len(job.item_results)
    final = job.state.ended and not left
    message = pb.WatchResponse(
        # With results left, a reader that goes on from here must get them.
        sequence=job.item_results.version_at(place - 1) if left else job.version,
        job=job_out(job, with_items=final),
        results=[pb.ItemResult(index=index, result=struct_out(result)) for index, result in found],
        final=final,
    )
    return message, place


async def _next_change(job: Job, changed: asyncio.Event) -> None:
    """Wait for a change, or for progress that is worth telling."""
    while True:
        before = view.progress(job)
        try:
            timeout = PROGRESS_S if job.crew.busy else None
            await asyncio.wait_for(changed.wait(), timeout)
            return
        except TimeoutError:
            if view.progress(job) != before:
                return
