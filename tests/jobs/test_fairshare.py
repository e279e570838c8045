"""Which job is next: jobs of one user in order, users by the CPU time that they had."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs import fairshare
from ktaskd.jobs.fairshare import FairQueue, Shares, UserQueue
from ktaskd.jobs.job import Job
from tests.jobs.test_registry import ALICE, BOB, make_job


@given(st.data())
def test_queue_when_changed_in_any_order_then_oldest_first(data: st.DataObject) -> None:
    jobs = [make_job() for _ in range(6)]
    queue, model = UserQueue(), set[Job]()
    for job, wanted in data.draw(st.lists(st.tuples(st.sampled_from(jobs), st.booleans()), max_size=30)):
        queue.put(job, wanted)
        (model.add if wanted else model.discard)(job)
        ordered = sorted(model, key=lambda job: job.jno)
        assert list(queue) == ordered
        assert queue.first is (ordered[0] if ordered else None)
        assert len(queue) == len(ordered)


def test_queues_when_one_uid_had_less_then_its_oldest_job_is_first() -> None:
    shares = Shares()
    waiting = FairQueue(shares)
    first, second, bobs = make_job(ALICE), make_job(ALICE), make_job(BOB)
    for job in (first, second, bobs):
        shares.enter(job.owner.uid)
        waiting.put(job, True)
    shares.charge(ALICE.uid, 1.0)
    assert waiting.first is bobs
    assert waiting.firsts() == [bobs, first]
    assert list(waiting) == [bobs, first, second]
    shares.charge(BOB.uid, 2.0)
    assert waiting.first is first
    assert len(waiting) == 3
    for job in (first, second, bobs, bobs):
        waiting.put(job, False)
    assert not waiting
    assert waiting.first is None


def test_queue_when_many_come_back_out_of_order_then_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs come back when a pause ends: to sort for each would hold the loop for seconds."""
    jobs, sorts = [make_job() for _ in range(50)], []

    def counted(items: Iterable[Any]) -> list[Any]:
        sorts.append(1)
        return builtins.sorted(items)

    monkeypatch.setattr(fairshare, "sorted", counted, raising=False)
    queue = UserQueue()
    for job in reversed(jobs):
        queue.put(job, True)
    assert list(queue) == jobs
    assert len(sorts) == 1
