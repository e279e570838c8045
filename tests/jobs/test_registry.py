"""Which jobs are known, to whom, and for how long."""

from __future__ import annotations

import itertools

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs.check import CheckedJob
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.jobs.registry import JobLimits, Query, Registry
from ktaskd.model.errors import JobUnknown, QueueFull, QuotaFull, RequestIdReused
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobId, JobSpec, JobState, RangeSpec
from ktaskd.planner.plan import Plan

ALICE, BOB, ADMIN = Identity(1000, 1000, 1), Identity(1001, 1001, 2), Identity(0, 0, 3)

_NUMBERS = itertools.count(1)


def make_job(owner: Identity = ALICE, spec: JobSpec | None = None) -> Job:
    spec = spec or JobSpec("selftest.noop")
    checked = CheckedJob(CATALOGUE["selftest.noop"], {}, (), True, False, False)
    jno = next(_NUMBERS)
    return Job(JobId(f"id{jno}"), jno, spec, checked, owner, {}, (), Plan((), 1, 1, 1, 1, 1), 100.0)


def add(
    registry: Registry, count: int = 1, owner: Identity = ALICE, spec: JobSpec | None = None
) -> list[Job]:
    jobs = [make_job(owner, spec) for _ in range(count)]
    for job in jobs:
        registry.add(job)
    return jobs


def end(registry: Registry, job: Job, end_s: float = 100.0) -> None:
    for event in (Event.STOP, Event.DRAINED, Event.END_CANCELLED):
        job.step(event)
    job.ended_boot_s = end_s
    registry.note_ended(job)


@pytest.fixture
def registry() -> Registry:
    return Registry(JobLimits(queued=6, queued_per_uid=4, kept=3, keep_s=10.0), frozenset({0}))


def test_job_when_anothers_then_as_if_unknown_but_for_admins(registry: Registry) -> None:
    (job,) = add(registry, spec=JobSpec("selftest.noop", request_id="mine"))
    assert registry.find(job.id, "", ALICE) is job
    assert registry.find("", "mine", ALICE) is job
    assert registry.find(job.id, "", ADMIN) is job
    with pytest.raises(JobUnknown) as foreign:
        registry.find(job.id, "", BOB)
    with pytest.raises(JobUnknown) as unknown:
        Registry(JobLimits(), frozenset()).find(job.id, "", BOB)
    assert (str(foreign.value), foreign.value.metadata) == (str(unknown.value), unknown.value.metadata)
    for who in (BOB, ADMIN):
        with pytest.raises(JobUnknown, match='request_id "mine"'):
            registry.find("", "mine", who)
    with pytest.raises(JobUnknown):
        registry.find("", "", ALICE)


def test_list_when_asked_then_own_jobs_newest_first(registry: Registry) -> None:
    first, second = add(registry, 2)
    (bobs,) = add(registry, owner=BOB)
    assert registry.page(Query(), ALICE) == [second, first]
    assert registry.page(Query(), BOB) == [bobs]
    assert registry.page(Query(), ADMIN) == [bobs, second, first]


def test_list_when_paged_then_stable_while_jobs_come_and_go() -> None:
    registry = Registry(JobLimits(kept=100), frozenset())
    jobs = add(registry, 7)
    page = registry.page(Query(limit=3), ALICE)
    assert page == jobs[:3:-1]
    add(registry, 2)
    end(registry, jobs[3], 0.0)
    registry.forget_ended_before(1.0)
    page = registry.page(Query(limit=3, before_jno=page[-1].jno), ALICE)
    assert page == [jobs[2], jobs[1], jobs[0]]
    assert registry.page(Query(limit=3, before_jno=page[-1].jno), ALICE) == []


def test_list_when_filtered_then_only_what_fits_all() -> None:
    registry = Registry(JobLimits(), frozenset())
    red = add(registry, 2, spec=JobSpec("selftest.noop", labels={"colour": "red", "size": "1"}))
    (other,) = add(registry, spec=JobSpec("mem.fill"))
    end(registry, red[0])
    assert registry.page(Query(labels=(("colour", "red"),)), ALICE) == [red[1], red[0]]
    assert registry.page(Query(labels=(("colour", "red"), ("size", "2"))), ALICE) == []
    assert registry.page(Query(function="mem.fill"), ALICE) == [other]
    assert registry.page(Query(states=frozenset({JobState.CANCELLED})), ALICE) == [red[0]]


def test_request_id_when_used_again_then_the_first_job_or_refused(registry: Registry) -> None:
    spec = JobSpec("selftest.noop", request_id="r")
    assert registry.same_request(spec, ALICE) is None
    (job,) = add(registry, spec=spec)
    assert registry.same_request(spec, ALICE) is job
    assert registry.same_request(spec, BOB) is None
    with pytest.raises(RequestIdReused, match='"r" was used for another spec') as caught:
        registry.same_request(JobSpec("selftest.noop", request_id="r", min_chunk=1), ALICE)
    assert caught.value.field == "spec.request_id"
    end(registry, job)
    assert registry.same_request(spec, ALICE) is job, "while it is kept"
    registry.forget_ended_before(1e9)
    assert registry.same_request(spec, ALICE) is None
    no_id = JobSpec("selftest.noop")
    add(registry, spec=no_id)
    assert registry.same_request(no_id, ALICE) is None


def test_quota_when_full_then_refused_until_a_job_ends(registry: Registry) -> None:
    jobs = add(registry, 4)
    with pytest.raises(QuotaFull, match="jobs of uid 1000: got 4 that have not ended, wanted less than 4"):
        registry.check_room(ALICE.uid)
    registry.check_room(BOB.uid)
    add(registry, 2, BOB)
    with pytest.raises(QueueFull, match="jobs of all users: got 6"):
        registry.check_room(ADMIN.uid)
    end(registry, jobs[0])
    registry.check_room(ALICE.uid)
    assert (registry.unended, registry.kept) == (5, 1)


def test_ended_jobs_when_more_than_kept_then_the_first_to_end_goes(registry: Registry) -> None:
    jobs = add(registry, 4)
    for job in reversed(jobs):
        end(registry, job)
    assert registry.page(Query(), ALICE) == [jobs[2], jobs[1], jobs[0]]
    assert (registry.unended, registry.kept) == (0, 3)
    with pytest.raises(JobUnknown):
        registry.find(jobs[3].id, "", ALICE)


def test_ended_jobs_when_large_then_they_count_for_several(registry: Registry) -> None:
    small = add(registry, 2)
    (large,) = add(registry, spec=JobSpec("selftest.noop", ranges=(RangeSpec(0, 0),) * 64))
    for job in (*small, large):
        end(registry, job)
    assert registry.page(Query(), ALICE) == [large, small[1]]


def test_ended_jobs_when_old_then_forgotten_and_the_next_time_is_told(registry: Registry) -> None:
    jobs = add(registry, 3)
    end(registry, jobs[1], 10.0)
    end(registry, jobs[0], 20.0)
    assert registry.forget_ended_before(15.0) == 20.0
    assert list(registry) == [jobs[0], jobs[2]]
    assert registry.forget_ended_before(20.0) is None
    assert list(registry) == [jobs[2]]


def test_job_when_forgotten_then_a_newer_one_of_its_request_id_stays(registry: Registry) -> None:
    spec = JobSpec("selftest.noop", request_id="r")
    old, new = add(registry, 2, spec=spec)
    end(registry, old)
    registry.forget_ended_before(1e9)
    assert registry.same_request(spec, ALICE) is new


def test_ended_jobs_when_one_uid_has_many_then_those_of_another_are_kept(registry: Registry) -> None:
    (bobs,) = add(registry, owner=BOB)
    end(registry, bobs)
    for job in add(registry, 4):
        end(registry, job)
    assert registry.find(bobs.id, "", BOB) is bobs
    assert registry.kept == 3
    assert registry.forget_ended_before(200.0) is None
    assert registry.kept == 0
    assert not registry._weights
    assert not registry._kept_of


def test_quota_when_jobs_are_large_then_fewer_of_them() -> None:
    registry = Registry(JobLimits(queued=1000, queued_per_uid=100, kept=3), frozenset())
    ranges = tuple(RangeSpec(i, 1) for i in range(64 * 60))
    jobs = add(registry, 2, spec=JobSpec("selftest.noop", ranges=ranges))
    with pytest.raises(QuotaFull):
        registry.check_room(ALICE.uid)
    registry.check_room(BOB.uid)
    jobs += add(registry, 50, owner=BOB, spec=JobSpec("selftest.noop", arg={"text": "x" * 10_000}))
    with pytest.raises(QuotaFull):
        registry.check_room(BOB.uid)
    for job in jobs:
        end(registry, job)
    registry.check_room(ALICE.uid)
    registry.check_room(BOB.uid)
