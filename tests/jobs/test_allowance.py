"""Effects of the governor and of the caller's own limits on jobs that run.

Guards: I3
Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ktaskd.host.caller import Caller
from ktaskd.jobs import view
from ktaskd.jobs.job import caller_cpus
from ktaskd.model.allowance import Allowance, Level, Reason
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from tests.jobs.realjobs import CPUS, ME, UID, RealJobs, real_jobs, run

LONG = JobSpec("selftest.spin", arg={"ms": 3_600_000}, ranges=(RangeSpec(0, 2),))
SHORT = JobSpec("selftest.spin", arg={"ms": 1}, ranges=(RangeSpec(0, 20),))


def paused(h: RealJobs, level: Level = Level.PAUSED) -> Allowance:
    reason = Reason("ON_BATTERY", "on battery power", since_s=1.0)
    return Allowance(dict.fromkeys(h.dispatch.capacity, 0), 2, 2, (reason,), level)


def test_helpers_when_the_allowance_falls_then_they_give_their_chunks_back() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.submit(LONG, waited=False)
            await h.until(lambda: len(job.crew.helpers) == 2)
            before = h.dispatch.allowance
            h.look = lambda: h._changed.set()  # type: ignore[method-assign]  # one too many until it answers
            h.engine.set_allowance(paused(h))
            await h.until(lambda: not job.crew.helpers)
            del h.look
            assert job.state is JobState.RUNNING
            assert [reason.code for reason in view.waiting_reasons(job)] == ["ON_BATTERY"]
            h.engine.set_allowance(before)
            await h.until(lambda: len(job.crew.helpers) == 2)
            assert view.waiting_reasons(job) == ()

    run(story())


def test_waited_job_when_paused_then_its_lead_goes_on_and_it_says_why_there_is_no_helper() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            h.engine.set_allowance(paused(h))
            job = await h.submit(SHORT)
            assert [reason.code for reason in view.waiting_reasons(job)] == ["ON_BATTERY"]
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED
            assert view.cpu(job).helper_s == 0

    run(story())


def test_job_when_submitted_in_a_pause_then_it_has_all_its_workers_after_it() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            before = h.dispatch.allowance
            h.engine.set_allowance(paused(h))
            job = await h.submit(LONG, waited=False)
            assert job.state is JobState.QUEUED
            h.engine.set_allowance(before)
            await h.until(lambda: len(job.crew.helpers) == 2)

    run(story())


def test_detached_copy_when_paused_then_not_even_begun() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            before = h.dispatch.allowance
            h.engine.set_allowance(paused(h))
            roles = {"src": h.memory(b"abc").ref, "dst": h.memory(0).ref}
            job = await h.submit(JobSpec("file.copy", sources=roles), waited=False)
            other = await h.run(SHORT)
            assert other.state is JobState.SUCCEEDED
            assert h.state(job) is JobState.QUEUED
            h.engine.set_allowance(before)
            await h.ended(job)
            assert h.state(job) is JobState.SUCCEEDED

    run(story())


def test_detached_job_when_it_makes_no_progress_then_it_gets_a_lead() -> None:
    async def story() -> None:
        async with real_jobs(starvation_s=0.2) as h:
            h.engine.set_allowance(paused(h, Level.LEADS_ONLY))
            job = await h.run(SHORT, waited=False)
            assert job.state is JobState.SUCCEEDED
            assert view.cpu(job).lead_s > 0
            assert h.engine.counters["jobs_rescued"] == 1

    run(story())


def test_detached_job_when_paused_then_it_gets_no_lead_however_long() -> None:
    async def story() -> None:
        async with real_jobs(starvation_s=0.05) as h:
            h.engine.set_allowance(paused(h, Level.LEADS_ONLY))
            job = await h.submit(LONG, waited=False)
            await h.until(lambda: job.crew.lead is not None)
            h.engine.set_allowance(paused(h))
            await h.until(lambda: job.crew.lead is None)
            # A waited job goes by while many times the limit has passed.
            for _ in range(10):
                await h.run(SHORT)
            assert job.crew.lead is None
            h.engine.set_allowance(paused(h, Level.LEADS_ONLY))
            await h.until(lambda: job.crew.lead is not None)

    run(story())


def test_job_when_it_waits_behind_one_that_goes_on_then_its_time_begins_anew() -> None:
    async def story() -> None:
        async with real_jobs(helpers=1, starvation_s=60.0) as h:
            first = await h.submit(LONG, waited=False)
            second = await h.submit(LONG, waited=False)
            await h.until(lambda: first.crew.helpers)
            now = [100.0]
            rescue = h.engine.watches.rescue
            timer = SimpleNamespace(cancel=lambda: None)
            clock: Any = SimpleNamespace(time=lambda: now[0], call_later=lambda *_: timer)
            rescue._loop = clock
            rescued = []
            for now[0], progress in (
                (100.0, False),
                (150.0, True),
                (161.0, False),
                (209.0, False),
                (211.0, False),
            ):
                if progress:
                    rescue.note_progress(UID)
                rescue._look()
                rescued.append((first.rescued, second.rescued))
            assert rescued == [(False, False)] * 2 + [(True, False)] * 2 + [(True, True)]

    run(story())


def test_caller_when_its_limits_change_then_its_job_has_fewer_or_more_workers() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.submit(LONG, waited=False)
            await h.until(lambda: len(job.crew.helpers) == 2)
            h.engine.set_caller(job, Caller(frozenset(), 0, 0.5))
            await h.until(lambda: len(job.crew.helpers) == 1)
            assert job.threads == 1
            h.engine.set_caller(job, Caller(frozenset(), 0, 0.0))
            await h.until(lambda: len(job.crew.helpers) == 2)

    run(story())


def test_lead_when_its_caller_has_a_tenth_of_a_cpu_then_it_waits_and_says_so() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            who = Identity(UID, ME.gid, ME.pid, nid=0, cpu_quota=0.1)
            job = await h.submit(JobSpec("selftest.spin", arg={"ms": 20}, ranges=(RangeSpec(0, 4),)), who=who)
            await h.until(lambda: job.paced_until_s)
            (reason,) = view.waiting_reasons(job)
            assert (reason.code, reason.value) == ("CLIENT_LIMIT", "0.1 CPUs")
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED
            # 80 ms at a tenth of a CPU; the last chunk is not waited for.
            assert job.end_s - job.start_s >= 0.3
            assert job.threads == 1

    run(story())


def test_leads_when_one_caller_has_many_short_jobs_then_they_are_paced_together() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            who = Identity(UID, ME.gid, ME.pid, nid=0, cpu_quota=0.2)
            spec = JobSpec("selftest.spin", arg={"ms": 20}, ranges=(RangeSpec(0, 1),))
            jobs = [await h.submit(spec, who=who) for _ in range(5)]
            await h.ended(*jobs)
            spent_s = sum(view.cpu(job).lead_s for job in jobs)
            took_s = max(job.end_s for job in jobs) - jobs[0].create_s
            # The credit of one period, and the last job, are not waited for.
            assert spent_s - 0.02 <= 0.2 * (took_s + 0.1) + 0.02

    run(story())


def test_caller_cpus_when_computed_then_the_tightest_and_at_least_one() -> None:
    assert caller_cpus(Caller(frozenset(), -1, 0.0)) == 0
    assert caller_cpus(Caller(frozenset(CPUS), -1, 0.0)) == len(CPUS)
    assert caller_cpus(Caller(frozenset({0, 1, 2}), -1, 2.5)) == 2
    assert caller_cpus(Caller(frozenset({0}), -1, 8.0)) == 1
    assert caller_cpus(Caller(frozenset(), -1, 0.01)) == 1
