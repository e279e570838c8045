"""Watches: messages of bounded size, resumed exactly, and woken a few at a time.

Guards: I12
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.herald import Herald
from ktaskd.api.watch import follow
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs.accepted import Accepted, Sources
from ktaskd.jobs.items import encode
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import JobUnknown
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobId, JobSpec, RangeSpec, SourceRef, abridged
from ktaskd.model.limits import ITEMS_MAX, RESULTS_SENT, SENT_BYTES_MAX
from ktaskd.planner.plan import Plan

WHO = Identity(7, 7, 7)


def job_over_items(count: int) -> Job:
    spec = JobSpec("file.crc32", items=(SourceRef(handle="h" * 32),) * count)
    ranges = (RangeSpec(0, count),)
    checked = CheckedJob(CATALOGUE["file.crc32"], {}, ranges, True, True, False, has_item_results=True)
    return Job(Accepted(JobId("j"), 1, 1.0), abridged(spec), checked, WHO, Sources(), Plan((), 1, 1, 1, 1, 1))


def succeed(job: Job) -> None:
    for event in (Event.START, Event.ALL_DONE, Event.FINISHED):
        job.apply(event)
        job.touch()


def watch(job: Job, after: int = 0) -> AsyncIterator[pb.WatchResponse]:
    return follow(job, after, Herald(), WHO.payer)


async def read(messages: AsyncIterator[pb.WatchResponse]) -> list[pb.WatchResponse]:
    return [message async for message in messages]


@pytest.mark.slow
def test_watch_when_a_job_has_the_most_items_then_no_message_is_large() -> None:
    job = job_over_items(ITEMS_MAX)
    job.add_items(0, [encode({"crc32": i, "bytes": 3}) for i in range(ITEMS_MAX)])
    succeed(job)
    messages = asyncio.run(read(watch(job)))
    assert [one.index for message in messages for one in message.results] == list(range(ITEMS_MAX))
    assert max(len(message.results) for message in messages) <= RESULTS_SENT
    assert max(message.ByteSize() for message in messages) < SENT_BYTES_MAX / 8
    assert messages[0].job.spec.items_omitted == ITEMS_MAX - len(messages[0].job.spec.items)


def test_watch_when_results_fill_what_a_job_may_carry_then_only_the_last_message_has_them() -> None:
    job = job_over_items(8000)
    job.add_items(0, [encode({"crc32": 2**32 - 1 - i, "bytes": 3}) for i in range(8000)])
    succeed(job)
    *messages, last = asyncio.run(read(watch(job)))
    assert len(messages) > 3
    assert not any(message.job.HasField("result") for message in messages)
    assert len(last.job.result.fields["items"].list_value.values) == 8000
    assert last.ByteSize() < SENT_BYTES_MAX


@pytest.mark.parametrize("size", [10, 9000])
def test_watch_when_it_is_cut_after_any_message_then_resumed_without_loss_or_repetition(size: int) -> None:
    async def story() -> None:
        job = job_over_items(30)
        job.add_items(0, [encode({"text": "x" * size})] * 20)  # known with one change
        job.add_items(25, [encode({"text": "x" * size})] * 5)
        job.add_items(20, [encode({"text": "x" * size})] * 5)
        succeed(job)
        whole = await read(watch(job))
        assert len(whole) == (1 if size == 10 else 10)
        for cut in range(len(whole) + 1):
            first = whole[:cut]
            rest = await read(watch(job, first[-1].sequence if first else 0))
            indices = [one.index for message in (*first, *rest) for one in message.results]
            assert indices == list(range(30))

    asyncio.run(story())


def test_watch_when_the_job_is_forgotten_then_results_that_were_not_read_are_an_error() -> None:
    async def story() -> None:
        job = job_over_items(30)
        job.add_items(0, [encode({"text": "x" * 9000})] * 30)
        succeed(job)
        unread = watch(job)
        await anext(unread)
        reader = watch(job)
        while not (message := await anext(reader)).final:
            pass
        job.drop_results()
        with pytest.raises(JobUnknown, match="forgotten before the watch had read"):
            await anext(unread)
        assert message.final

    asyncio.run(story())


def test_changes_when_a_job_has_thousands_of_watchers_then_a_few_are_woken_in_a_turn() -> None:
    async def story() -> None:
        job, herald = job_over_items(1), Herald()
        watchers = [herald.changes(job, 7) for _ in range(1000)]
        events = [watcher.__enter__() for watcher in watchers]
        job.touch()
        woken = []
        while not all(event.is_set() for event in events):
            woken.append(sum(event.is_set() for event in events))
            job.touch()  # watchers that have not been woken yet are not woken twice
            await asyncio.sleep(0)
        assert len(woken) >= 50
        assert all(after - before <= 16 for before, after in pairwise(woken))
        for watcher in watchers:
            watcher.__exit__(None, None, None)
        assert not job.watchers

    asyncio.run(story())


def test_changes_when_one_account_has_thousands_of_watchers_then_another_is_woken_next() -> None:
    async def story() -> None:
        mine, theirs, herald = job_over_items(1), job_over_items(1), Herald()
        crowd = [herald.changes(theirs, 7) for _ in range(500)]
        for watcher in crowd:
            watcher.__enter__()
        with herald.changes(mine, 8) as event:
            theirs.touch()
            mine.touch()
            turns = 0
            while not event.is_set():
                turns += 1
                await asyncio.sleep(0)
            assert turns <= 2
        for watcher in crowd:
            watcher.__exit__(None, None, None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not herald._queues
        assert herald._next is None, "it wakes nobody, and looks no more"

    asyncio.run(story())
