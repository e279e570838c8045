"""A job is charged at least as much as the daemon holds for it."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from ktaskd.api.convert import job_out
from ktaskd.jobs.crew import NOBODY
from ktaskd.jobs.items import ITEM_BYTES, ItemResults, encode
from ktaskd.jobs.parts import Parts
from ktaskd.model.job import JobSpec, RangeSpec
from ktaskd.model.spans import SPAN_BYTES, SpanSet
from tests.jobs.realjobs import real_jobs, run

COUNT = 30


class Taken:
    """Bytes that were allocated since it was made, and are in use."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]

    def now(self) -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self._before

    def end(self) -> int:
        taken = self.now()
        tracemalloc.stop()
        return taken


def many_ranges(number: int) -> JobSpec:
    return JobSpec("selftest.noop", ranges=tuple(RangeSpec(10 * i, 5, -1) for i in range(1000 + number)))


def with_texts(number: int) -> JobSpec:
    labels = {f"{i}": f"{number}{'x' * 200}" for i in range(16)}
    return JobSpec("selftest.noop", ranges=(RangeSpec(0, 9),), labels=labels, request_id=f"{number}")


def small(number: int) -> JobSpec:
    return JobSpec("selftest.noop", ranges=(RangeSpec(0, 1000 + number),))


@pytest.mark.parametrize("make", [small, many_ranges, with_texts])
def test_job_when_queued_and_when_kept_then_not_charged_less_than_it_takes(make: object) -> None:
    assert callable(make)

    async def story() -> None:
        async with real_jobs(helpers=0, leads=1) as h:
            await h.submit(make(0), waited=False)
            taken = Taken()
            jobs = [await h.submit(make(1 + i), waited=False) for i in range(COUNT)]
            queued = taken.now()
            assert queued / COUNT <= sum(job.held_bytes for job in jobs) / COUNT <= 3 * queued / COUNT
            for job in jobs:
                h.engine.cancel(job)
            assert taken.end() / COUNT <= sum(job.held_bytes for job in jobs) / COUNT

    run(story())


def test_job_when_it_waits_then_it_takes_less_than_3_kib_whoever_looks_at_it() -> None:
    async def story() -> None:
        async with real_jobs(helpers=0, leads=1) as h:
            job_out(await h.submit(small(0), waited=False))
            taken = Taken()
            jobs = [await h.submit(small(1 + i), waited=False) for i in range(COUNT)]
            for job in jobs:
                job_out(job)
            assert taken.end() / COUNT < 3 * 1024
            for job in jobs:
                assert job.crew is NOBODY
                with pytest.raises(AssertionError, match="no crew of its own"):
                    job.crew.helpers.add(next(iter(h.dispatch.leads.idle)))

    run(story())


def test_items_when_a_job_has_many_then_it_holds_the_first_and_is_charged_for_all() -> None:
    async def story() -> None:
        async with real_jobs(helpers=0, leads=1) as h:
            refs = tuple(h.memory(b"x").ref for _ in range(300))
            taken = Taken()
            items = refs * 100
            jobs = [await h.submit(JobSpec("file.crc32", items=items), waited=False) for _ in range(5)]
            del items
            assert taken.end() <= sum(job.held_bytes for job in jobs)
            for job in jobs:
                assert len(job.spec.items) == 64
                assert job.spec.items_omitted == 30_000 - 64

    run(story())


def test_results_when_held_then_not_charged_less_than_they_take() -> None:
    taken = Taken()
    items = ItemResults([RangeSpec(0, 5000)])
    texts = [encode({"line": i, "text": "y" * (i % 50)}) for i in range(5000)]
    version = 0
    for i, text in enumerate(texts):
        version = items.add(i, [text], version)
    charged = sum(map(len, texts)) + ITEM_BYTES * len(texts)
    del texts
    assert items.held_bytes == charged
    assert taken.end() <= 1.15 * charged
    taken = Taken()
    parts = Parts()
    charged = sum(parts.add(start, b'{"n": %d}' % start) for start in range(5000))
    assert taken.end() <= 1.15 * charged


def test_spans_when_there_are_many_then_sixteen_bytes_each() -> None:
    taken = Taken()
    spans = SpanSet()
    spans.add_all((2 * i, 2 * i + 1) for i in range(50_000))
    assert taken.end() <= 1.3 * SPAN_BYTES * 50_000
    assert len(spans) == 50_000
