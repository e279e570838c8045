"""The jobs that a watcher of the status gets."""

from __future__ import annotations

from ktaskd.api.present import present_jobs
from ktaskd.jobs.machine import Event
from ktaskd.jobs.registry import JobLimits, Registry
from tests.jobs.test_registry import ADMIN, ALICE, BOB, add, end


def test_present_when_asked_for_then_own_jobs_begun_ones_first_and_no_old_ones() -> None:
    registry = Registry(JobLimits(keep_s=100.0), frozenset({0}))
    queued, begun, recent, old = add(registry, 4)
    (theirs,) = add(registry, 1, BOB)
    begun.apply(Event.START)
    end(registry, old, 80.0)
    end(registry, recent, 95.0)
    assert present_jobs(registry, ALICE, 10, 90.0) == ([begun, queued, recent], 0)
    assert present_jobs(registry, ALICE, 1, 90.0) == ([begun], 1)
    assert present_jobs(registry, BOB, 10, 0.0) == ([theirs], 0)
    assert len(present_jobs(registry, ADMIN, 10, 0.0)[0]) == 5
