"""A lead has its caller's priority, and the next caller has it back."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ktaskd.host.caller import describe
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.priority import read_priority
from ktaskd.jobs.job import Job
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.priority import Priority
from tests.jobs.realjobs import RealJobs, real_jobs, run
from tests.jobs.simulated import READER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker

LOW, IDLE, NORMAL = Priority("normal", 19, "idle"), Priority("idle", 19, "idle"), Priority()


class Kernel:
    """Sets priorities of simulated workers, as far as the test lets it."""

    def __init__(self, sim: Simulation, *, rises: bool = True) -> None:
        self.rises = rises
        self.had: dict[int, Priority] = {}
        self.busy_autogroups = 0
        """Times that the kernel takes no change of an autogroup."""
        sim.dispatch.stand_ins._set = self.set

    def set(self, pid: int, wanted: Priority) -> dict[str, OSError]:
        before = self.had.get(pid, NORMAL)
        if wanted.nice < before.nice and not self.rises:
            return {"nice": PermissionError(errno.EPERM, "not permitted")}
        self.had[pid] = wanted
        if self.busy_autogroups:
            self.busy_autogroups -= 1
            return {"autogroup nice": BlockingIOError(errno.EAGAIN, "again")}
        return {}


def submit(sim: Simulation, priority: Priority, *, pid: int = 1, waited: bool = True) -> Job:
    """A job of one worker, of a caller with this priority."""
    accept = sim.engine.accept

    def accept_of(spec: object, checked: object, owner: Identity, *rest: object) -> Job:
        return accept(spec, checked, replace(owner, priority=priority), *rest)  # type: ignore[arg-type]

    sim.engine.accept = accept_of  # type: ignore[assignment]
    try:
        return sim.submit(READER, 20, threads=1, pid=pid, waited=waited)
    finally:
        sim.engine.accept = accept


def lead_of(job: Job) -> SimulatedWorker:
    assert isinstance(job.crew.lead, SimulatedWorker)
    return job.crew.lead


def work_off(job: Job) -> None:
    while not job.state.ended:
        (worker,) = job.crew.busy
        assert isinstance(worker, SimulatedWorker)
        worker.begin()
        worker.answer()


@pytest.mark.parametrize("low", [LOW, IDLE, Priority("batch", 5, "best-effort:7")])
def test_lead_when_its_caller_is_low_then_it_is_too_and_the_next_caller_has_it_back(low: Priority) -> None:
    async def story(sim: Simulation) -> None:
        kernel = Kernel(sim)
        sim.fill()
        job = submit(sim, low)
        lead = lead_of(job)
        assert kernel.had[lead.pid] == low
        assert (lead.applied.policy, lead.applied.nice, lead.applied.ioprio) == (
            low.policy,
            low.nice,
            low.ioprio,
        )
        work_off(job)
        later = submit(sim, NORMAL)
        assert lead_of(later) is lead, "it could come back"
        assert kernel.had[lead.pid] == NORMAL
        work_off(later)

    play(story, leads=1)


def test_lead_when_under_sched_idle_then_with_the_helpers_and_back_again() -> None:
    async def story(sim: Simulation) -> None:
        Kernel(sim)
        lowered: list[int] = []
        raised: list[int] = []
        lower, raise_ = sim.raiser.lower, sim.raiser.raise_

        def note_lower(pid: int) -> bool:
            lowered.append(pid)
            return lower(pid)

        def note_raise(pid: int) -> bool:
            raised.append(pid)
            return raise_(pid)

        sim.raiser.lower, sim.raiser.raise_ = note_lower, note_raise  # type: ignore[method-assign]
        sim.fill()
        for priority in (IDLE, IDLE, LOW, NORMAL):
            job = submit(sim, priority)
            pid = lead_of(job).pid
            work_off(job)
        assert (lowered, raised) == ([pid], [pid])

    play(story, leads=1)


def test_lead_when_it_cannot_come_back_then_replaced_before_the_next_job() -> None:
    async def story(sim: Simulation) -> None:
        Kernel(sim, rises=False)
        sim.fill()
        job = submit(sim, LOW)
        lead = lead_of(job)
        work_off(job)
        again = submit(sim, LOW)
        assert lead_of(again) is lead, "for a caller like that it will do"
        work_off(again)
        later = submit(sim, NORMAL)
        assert not later.crew.busy
        assert lead.retired
        lead.die()
        sim.fill()
        assert lead_of(later) is not lead
        work_off(later)

    play(story, leads=1)


def test_lead_when_idle_ones_have_other_priorities_then_the_one_that_fits() -> None:
    async def story(sim: Simulation) -> None:
        Kernel(sim, rises=False)
        sim.fill()
        sim._want_leads(2)
        sim.fill()
        low, normal = submit(sim, LOW, pid=1), submit(sim, NORMAL, pid=2)
        first, second = lead_of(low), lead_of(normal)
        work_off(low)
        work_off(normal)
        for priority, lead in ((NORMAL, second), (LOW, first), (NORMAL, second)):
            job = submit(sim, priority)
            assert lead_of(job) is lead
            work_off(job)

    play(story)


def test_lead_when_its_caller_changes_then_it_does_too_while_it_works() -> None:
    async def story(sim: Simulation) -> None:
        kernel = Kernel(sim)
        sim.fill()
        job = submit(sim, NORMAL)
        for priority in (LOW, NORMAL, IDLE):
            sim.engine.set_caller(job, job.caller._replace(priority=priority))
            assert kernel.had[lead_of(job).pid] == priority
        kernel.rises = False
        sim.raiser.works = lambda: False
        lead = lead_of(job)
        sim.engine.set_caller(job, job.caller._replace(priority=NORMAL))
        lead.begin()
        lead.answer()
        assert lead.retired, "it could not be raised, and ends after its chunk"
        lead.die()
        sim.fill()
        work_off(job)

    play(story, leads=1)


def test_lead_when_the_kernel_takes_the_autogroup_later_then_tried_again() -> None:
    async def story(sim: Simulation) -> None:
        kernel = Kernel(sim)
        kernel.busy_autogroups = 3
        sim.fill()
        job = submit(sim, LOW)
        lead = lead_of(job)
        assert list(lead.applied.missing) == ["autogroup nice: again"]
        await asyncio.sleep(1.0)
        assert list(lead.applied.missing) == []
        assert not kernel.busy_autogroups
        work_off(job)

    play(story, leads=1)


def test_helper_when_its_jobs_caller_is_low_then_not_raised_but_to_clean_up() -> None:
    async def story(sim: Simulation) -> None:
        Kernel(sim)
        sim.fill()
        busy = [sim.submit(READER, 1, threads=1, uid=uid) for uid in (8, 9)]
        sim._want_leads(2)
        sim.fill()
        job = submit(sim, IDLE)
        (helper,) = job.crew.helpers
        assert isinstance(helper, SimulatedWorker)
        helper.begin()
        helper.share = 0.01
        await asyncio.sleep(1.0)
        assert job.tally.raised == 0
        sim.engine.cancel(job)
        await asyncio.sleep(1.0)
        assert job.tally.raised == 1
        helper.answer(whole=False)
        for one in busy:
            work_off(one)
        assert job.state is JobState.CANCELLED

    play(story)


def test_leads_when_of_low_priority_and_outrun_then_others_have_their_permits() -> None:
    async def story(sim: Simulation) -> None:
        Kernel(sim)
        sim.engine.set_allowance(replace(sim.full, helpers=dict.fromkeys(sim.full.helpers, 0)))
        sim.fill()
        sim._want_leads(2)
        sim.fill()
        low = [submit(sim, IDLE, pid=pid) for pid in (1, 2)]
        for job in low:
            lead_of(job).begin()
            lead_of(job).share = 0.05  # it could run, and others do
        job = submit(sim, NORMAL, pid=3)
        await asyncio.sleep(0.3)
        sim.fill()
        work_off(job)
        for job in low:
            work_off(job)

    play(story)


# -- real processes -----------------------------------------------------------------


@contextmanager
def caller_of(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits, started by way of a command that lowers it."""
    with subprocess.Popen([*words, "/bin/cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.communicate()


def spin(units: int = 20) -> JobSpec:
    return JobSpec("selftest.spin", {"ms": 1}, ranges=(RangeSpec(0, units, -1),), max_threads=1)


def as_caller(h: RealJobs, pid: int) -> Identity:
    return describe(HostRoot(), Identity(os.geteuid(), os.getegid(), pid), h.topology)


async def is_low(process: subprocess.Popen[bytes], policy: int, nice: int) -> None:
    """Wait until the command has done its work and has become the process that waits."""
    while (os.sched_getscheduler(process.pid), os.getpriority(os.PRIO_PROCESS, process.pid)) != (
        policy,
        nice,
    ):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("words", "policy", "nice"),
    [
        (("nice", "-n", "19"), os.SCHED_OTHER, 19),
        (("chrt", "--idle", "0"), os.SCHED_IDLE, 0),
        (("chrt", "--batch", "0", "nice", "-n", "7"), os.SCHED_BATCH, 7),
    ],
)
def test_real_lead_when_its_caller_is_low_then_the_kernel_says_so(
    words: tuple[str, ...], policy: int, nice: int
) -> None:
    async def story() -> None:
        async with real_jobs(leads=1, helpers=0) as h:
            with caller_of(*words) as process:
                await is_low(process, policy, nice)
                job = await h.submit(spin(10_000), who=as_caller(h, process.pid))
                lead = await h.begun(job)
                assert (os.sched_getscheduler(lead.pid), os.getpriority(os.PRIO_PROCESS, lead.pid)) == (
                    policy,
                    nice,
                )
                h.engine.cancel(job)
                await h.ended(job)
            later = await h.submit(spin(10_000))
            other = await h.begun(later)
            assert read_priority(HostRoot(), other.pid) == read_priority(HostRoot(), os.getpid()).standing_in(
                other.base
            )
            h.engine.cancel(later)
            await h.ended(later)

    run(story())
