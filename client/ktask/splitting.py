"""Splits a job over more items than one job takes into several, and joins their results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ktask import convert
from ktask.core import Draft
from ktask.link.session import Session
from ktask.results import Job, JobState

ITEMS_PER_JOB = 1000
"""The daemon keeps only some thousands of files open for one user, over all programs."""

ITEMS_AT_ONCE = 4000
"""The library runs up to this many items as one job, if the user's limits allow that."""


def split(draft: Draft, most: int = ITEMS_PER_JOB) -> Iterator[Draft]:
    """Yield the jobs that do the work of `draft`: itself, or several if it has more than `most` items.

    A draft with ranges stays one job, because ranges count positions over all items.
    """
    items = tuple(draft.items or ())
    if len(items) <= most or draft.ranges:
        yield draft if draft.items is None else replace(draft, items=items)
        return
    for i in range(0, len(items), ITEMS_PER_JOB):
        # Each job is a request of its own.
        yield replace(draft, items=items[i : i + ITEMS_PER_JOB], request_id="")


def item_results(session: Session, job: Job) -> list[tuple[int, Any]]:
    """Each result with the number of its item; a watch fetches them if they do not fit into the job."""
    items = (job.result or {}).get("items")
    if items is not None:
        return list(enumerate(items))
    updates = session.watch(id=job.id)
    return [(one.index, convert.plain(one.result)) for message in updates for one in message.results]


def join(session: Session, jobs: Iterable[Job]) -> Job:
    """The last job, with the results of the items of all; or the first job that did not succeed, as it is."""
    found: list[Any] = []
    last: Job | None = None
    for job in jobs:
        if job.state is not JobState.SUCCEEDED:
            return job
        if last is not None and not found:
            found += [result for _, result in item_results(session, last)]
        if last is not None:
            found += [result for _, result in item_results(session, job)]
        last = job
    if last is None:
        raise AssertionError("no job")
    return replace(last, result={"items": found}) if found else last
