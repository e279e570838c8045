"""Which jobs are known, to whom, and for how long.

Guards: I11
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs.accepted import Accepted, Sources
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.jobs.quota import Quota
from ktaskd.jobs.registry import Digest, JobLimits, Query, Registry, digest_of
from ktaskd.model.checked import CheckedJob
from ktaskd.model.errors import JobUnknown, QueueFull, QuotaFull, RequestIdReused
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobId, JobSpec, JobState, RangeSpec, abridged
from ktaskd.planner.plan import Plan

ALICE, BOB, ADMIN = Identity(1000, 1000, 1), Identity(1001, 1001, 2), Identity(0, 0, 3)

_NUMBERS = itertools.count(1)


def make_job(owner: Identity = ALICE, spec: JobSpec | None = None) -> Job:
    spec = spec or JobSpec("selftest.noop")
    checked = CheckedJob(CATALOGUE["selftest.noop"], {}, (), True, False, False)
    jno = next(_NUMBERS)
    return Job(
        Accepted(JobId(f"id{jno}"), jno, 100.0), spec, checked, owner, Sources(), Plan((), 1, 1, 1, 1, 1)
    )


def add(
    registry: Registry, count: int = 1, owner: Identity = ALICE, spec: JobSpec | None = None
) -> list[Job]:
    jobs = [make_job(owner, spec) for _ in range(count)]
    for job in jobs:
        registry.add(job)
    return jobs


def listed(registry: Registry, query: Query, who: Identity) -> list[Job]:
    """Jobs that one look finds, which is enough for these few."""
    return list(registry.look(query, who).jobs)


def end(registry: Registry, job: Job, end_s: float = 100.0) -> None:
    for event in (Event.STOP, Event.DRAINED, Event.END_CANCELLED):
        job.apply(event)
    job.ended_boot_s = end_s
    registry.note_ended(job)


@pytest.fixture
def registry() -> Registry:
    return Registry(JobLimits(queued=6, queued_per_uid=4, kept=3, keep_s=10.0), frozenset({0}))


def test_job_when_anothers_then_as_if_unknown_but_for_admins(registry: Registry) -> None:
    """Guards: I8"""
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
    assert listed(registry, Query(), ALICE) == [second, first]
    assert listed(registry, Query(), BOB) == [bobs]
    assert listed(registry, Query(), ADMIN) == [bobs, second, first]


def test_list_when_paged_then_stable_while_jobs_come_and_go() -> None:
    registry = Registry(JobLimits(kept=100), frozenset())
    jobs = add(registry, 7)
    page = listed(registry, Query(limit=3), ALICE)
    assert page == jobs[:3:-1]
    add(registry, 2)
    end(registry, jobs[3], 0.0)
    registry.forget_ended_before(1.0)
    page = listed(registry, Query(limit=3, before_jno=page[-1].jno), ALICE)
    assert page == [jobs[2], jobs[1], jobs[0]]
    assert listed(registry, Query(limit=3, before_jno=page[-1].jno), ALICE) == []


def test_list_when_filtered_then_only_what_fits_all() -> None:
    registry = Registry(JobLimits(), frozenset())
    red = add(registry, 2, spec=JobSpec("selftest.noop", labels={"colour": "red", "size": "1"}))
    (other,) = add(registry, spec=JobSpec("mem.fill"))
    end(registry, red[0])
    assert listed(registry, Query(labels=(("colour", "red"),)), ALICE) == [red[1], red[0]]
    assert listed(registry, Query(labels=(("colour", "red"), ("size", "2"))), ALICE) == []
    assert listed(registry, Query(function="mem.fill"), ALICE) == [other]
    assert listed(registry, Query(states=frozenset({JobState.CANCELLED})), ALICE) == [red[0]]


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
    with pytest.raises(QuotaFull, match="uid 1000 has 4 unfinished jobs"):
        registry.check_room(ALICE)
    registry.check_room(BOB)
    add(registry, 2, BOB)
    with pytest.raises(QueueFull, match="all users together have 6 unfinished jobs"):
        registry.check_room(ADMIN)
    end(registry, jobs[0])
    registry.check_room(ALICE)
    assert (registry.unended, registry.kept) == (5, 1)


def test_ended_jobs_when_more_than_kept_then_the_first_to_end_goes(registry: Registry) -> None:
    jobs = add(registry, 4)
    for job in reversed(jobs):
        end(registry, job)
    assert listed(registry, Query(), ALICE) == [jobs[2], jobs[1], jobs[0]]
    assert (registry.unended, registry.kept) == (0, 3)
    with pytest.raises(JobUnknown):
        registry.find(jobs[3].id, "", ALICE)


def test_ended_jobs_when_large_then_they_count_for_several(registry: Registry) -> None:
    small = add(registry, 2)
    (large,) = add(registry, spec=JobSpec("selftest.noop", ranges=(RangeSpec(0, 0),) * 64))
    for job in (*small, large):
        end(registry, job)
    assert listed(registry, Query(), ALICE) == [large, small[1]]


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
    assert not registry._kept_of


def test_quota_when_jobs_are_large_then_fewer_of_them() -> None:
    registry = Registry(JobLimits(queued=1000, queued_per_uid=100, kept=3), frozenset())
    ranges = tuple(RangeSpec(i, 1) for i in range(64 * 60))
    jobs = add(registry, 2, spec=JobSpec("selftest.noop", ranges=ranges))
    with pytest.raises(QuotaFull):
        registry.check_room(ALICE)
    registry.check_room(BOB)
    jobs += add(registry, 50, owner=BOB, spec=JobSpec("selftest.noop", arg={"text": "x" * 10_000}))
    with pytest.raises(QuotaFull):
        registry.check_room(BOB)
    for job in jobs:
        end(registry, job)
    registry.check_room(ALICE)
    registry.check_room(BOB)


def shared(uid: int) -> Identity:
    """One of several uids with one account."""
    return Identity(uid, uid, 1, account=ALICE.uid)


def test_quota_when_uids_share_an_account_then_they_share_its_bounds(registry: Registry) -> None:
    add(registry, 2, shared(5000))
    add(registry, 2, shared(5001))
    for who in (ALICE, shared(5000), shared(5002)):
        with pytest.raises(QuotaFull):
            registry.check_room(who)
    registry.check_room(BOB)
    assert listed(registry, Query(), ALICE) == [], "rights go by uid"


def test_memory_when_an_account_has_half_of_it_then_refused_in_words_and_others_are_not() -> None:
    registry = Registry(JobLimits(), frozenset())
    (job,) = add(registry)
    registry.live.most = 4 * job.held_bytes
    registry.check_room(ALICE, job.held_bytes)
    add(registry)
    with pytest.raises(QuotaFull, match=r"memory: the unfinished jobs of uid 1000 hold .* \(limit "):
        registry.check_room(ALICE, job.held_bytes)
    registry.check_room(BOB, job.held_bytes)
    end(registry, job)
    registry.check_room(ALICE, job.held_bytes)


def test_memory_when_requests_and_ended_jobs_take_it_then_less_is_left_for_unfinished_ones() -> None:
    registry = Registry(JobLimits(), frozenset())
    reading = Quota(registry.held.most, registry.held, 10)
    first, second = add(registry, 2)
    end(registry, first)
    assert registry.held.left(ALICE.uid) == registry.held.most - first.held_bytes - second.held_bytes
    left = registry.held.left(ALICE.uid)
    reading.charge(ALICE.uid, left // 10 - 100)
    registry.check_room(ALICE, 1000)
    with pytest.raises(QuotaFull, match="memory: the unfinished jobs of uid"):
        registry.check_room(ALICE, 2000)
    assert not registry.hold(second, 2000)
    registry.check_room(BOB, 2000)
    reading.charge(ALICE.uid, 100 - left // 10)
    registry.check_room(ALICE, 2000)
    end(registry, second)
    registry.forget_ended_before(1e9)
    assert registry.held.left(ALICE.uid) == registry.held.most


def test_memory_when_results_are_too_large_then_an_error_that_names_the_limit() -> None:
    registry = Registry(JobLimits(), frozenset())
    (job,) = add(registry)
    before = registry.live.of(ALICE.uid)
    assert registry.hold_results(job, 1000) is None
    assert registry.live.of(ALICE.uid) == before + 1000
    error = registry.hold_results(job, registry.live.most)
    assert error is not None
    assert error.reason == "RESULT_TOO_LARGE"
    assert f"(limit {registry.live.most / 2 / (1 << 20):.1f} MiB)" in error.message
    assert registry.live.of(ALICE.uid) == before + 1000
    end(registry, job)
    assert registry.live.total == 0


def test_ended_jobs_when_they_hold_too_much_then_the_accounts_own_oldest_go_and_the_last_stays() -> None:
    registry = Registry(JobLimits(), frozenset())
    freed: list[int] = []
    registry.on_freed = freed.append
    (bobs,) = add(registry, owner=BOB)
    end(registry, bobs)
    each = bobs.held_bytes
    registry.kept_memory.most = 7 * each
    jobs = add(registry, 5)
    for job in jobs:
        end(registry, job)
    assert registry.find(bobs.id, "", BOB) is bobs
    assert listed(registry, Query(), ALICE) == jobs[:1:-1], "three are half of what Bob leaves"
    assert registry.kept_memory.total == 4 * each
    registry.kept_memory.most = 0
    (last,) = add(registry)
    end(registry, last)
    assert listed(registry, Query(), ALICE) == [last], "it has just ended, and nobody has seen it"
    assert sum(freed) > 4 * each
    registry.forget_ended_before(1e9)
    assert (registry.kept_memory.total, registry.kept) == (0, 0)


def test_ended_jobs_when_old_ones_are_many_then_forgotten_in_several_turns() -> None:
    registry = Registry(JobLimits(), frozenset())
    for job in add(registry, 5):
        end(registry, job, 50.0)
    assert registry.forget_ended_before(60.0, 3) == 50.0
    assert registry.kept == 2
    assert registry.forget_ended_before(60.0, 3) is None


def test_list_when_others_have_many_jobs_then_only_own_ones_are_looked_at() -> None:
    registry = Registry(JobLimits(), frozenset({0}))
    (first,) = add(registry)
    add(registry, 500, owner=BOB)
    (last,) = add(registry)
    page = registry.look(Query(), ALICE)
    assert (list(page.jobs), page.looked, page.next_jno) == ([last, first], 2, 0)
    assert registry.look(Query(), ADMIN).looked == 100
    assert registry.look(Query(), Identity(7, 7, 7)).looked == 0


def test_list_when_few_jobs_fit_then_a_look_is_short_and_says_where_the_next_begins() -> None:
    registry = Registry(JobLimits(), frozenset())
    red = add(registry, spec=JobSpec("selftest.noop", labels={"colour": "red"}))
    jobs = add(registry, 25)
    query, looks = Query(labels=(("colour", "red"),)), []
    while True:
        page = registry.look(query, ALICE, 10)
        looks.append(page.looked)
        assert page.looked <= 10
        if not page.next_jno:
            break
        query = Query(labels=query.labels, before_jno=page.next_jno)
    assert list(page.jobs) == red
    assert looks == [10, 10, 6]
    assert page.jobs[0].jno < jobs[0].jno


def test_request_id_when_only_what_is_not_remembered_differs_then_another_spec() -> None:
    registry = Registry(JobLimits(), frozenset())
    ranges = tuple(RangeSpec(10 * i, 5) for i in range(200))
    spec = JobSpec("selftest.noop", ranges=ranges, request_id="r")
    job = make_job(spec=abridged(spec))
    registry.add(job, digest_of(spec))
    assert len(job.spec.ranges) == 64
    assert registry.same_request(spec, ALICE) is job
    with pytest.raises(RequestIdReused):
        registry.same_request(replace(spec, ranges=(*ranges[:-1], RangeSpec(1990, 6))), ALICE)
    pieces = Digest()
    pieces.add_head(spec)
    for i in range(0, 200, 7):
        pieces.add(ranges[i : i + 7])
    assert pieces.value == digest_of(spec)
