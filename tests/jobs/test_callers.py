"""The limits of callers are followed while their jobs run, and only then."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ktaskd.host.caller import Caller, describe
from ktaskd.host.processes.incarnation import Incarnation
from ktaskd.host.root import HostRoot
from ktaskd.jobs import callers as callers_module
from ktaskd.jobs.callers import AT_ONCE, Callers
from ktaskd.jobs.job import Job
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, RangeSpec
from ktaskd.model.priority import Priority
from tests.jobs.realjobs import ME, RealJobs, real_jobs, run
from tests.support.cgroups import cgroup, own_group, sleeper
from tests.support.machine import make_machine

ONE, TWO = Caller(frozenset({0}), 0, 1.0), Caller(frozenset({0, 1}), 0, 2.0)


@dataclass
class Machine:
    """Callers whose limits and lives are what a test says."""

    limits: dict[int, Caller] = field(default_factory=dict)
    priorities: dict[int, Priority] = field(default_factory=dict)
    """Limits that have changed since their process connected."""
    top: Path = Path("/nowhere")
    reads: list[int] = field(default_factory=list)
    told: list[tuple[Job, Caller]] = field(default_factory=list)

    def read(self, pid: int) -> Caller:
        self.reads.append(pid)
        return self.limits[pid]

    def ask(self, pid: int, known: Priority) -> Priority:
        return self.priorities.get(pid, known)

    def hold(self, who: Identity) -> Incarnation:
        return Incarnation(HostRoot(self.top), who.pid, start_ticks=who.start_ticks)

    def live(self, pid: int, ticks: int) -> Identity:
        """A process that was started at `ticks`; what was there before under its pid is gone."""
        fields = ["S", *("0" for _ in range(18)), str(ticks)]
        make_machine(self.top, {f"/proc/{pid}/stat": f"{pid} (x) {' '.join(fields)}\n"})
        self.limits[pid] = ONE
        return Identity(1, 1, pid, cpus=ONE.cpus, nid=0, cpu_quota=1.0, start_ticks=ticks)

    def on_limits(self, job: Job, caller: Caller) -> None:
        job.caller = caller
        self.told.append((job, caller))


@pytest.fixture
def fast() -> Iterator[None]:
    """Look as often as can be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callers_module, "FIRST_S", 0.001)
        patch.setattr(callers_module, "PERIOD_S", 0.001)
        yield


@asynccontextmanager
async def watching(tmp_path: Path) -> AsyncIterator[tuple[RealJobs, Machine, Callers]]:
    """Real jobs, and callers of our own making."""
    async with real_jobs() as h:
        machine = Machine(top=tmp_path)
        callers = Callers(machine.read, machine.hold, machine.on_limits, machine.ask)
        yield h, machine, callers
        callers.close()


def spin(positions: int = 100_000) -> JobSpec:
    return JobSpec("selftest.spin", {"ms": 1}, ranges=(RangeSpec(0, positions, -1),))


async def several_looks(machine: Machine) -> None:
    count = len(machine.reads) + 5
    while len(machine.reads) < count:
        await asyncio.sleep(0)


@pytest.mark.usefixtures("fast")
def test_limits_when_changed_then_told_once_for_each_job_of_the_caller(tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            who, other = machine.live(7, 1000), machine.live(8, 1000)
            jobs = [await h.submit(spin(), who=one, waited=False) for one in (who, who, other)]
            for job in jobs:
                callers.add(job)
            await several_looks(machine)
            assert machine.told == []
            machine.limits[7] = TWO._replace(nid=1)
            await several_looks(machine)
            assert machine.told == [(jobs[0], TWO), (jobs[1], TWO)], "the node is no limit"
            later = await h.submit(spin(), who=who, waited=False)
            callers.add(later)
            assert machine.told[2:] == [(later, TWO)], "known already, so told at once"

    run(story())


def test_priority_when_changed_since_the_connection_began_then_told_with_the_first_job(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            job = await h.submit(spin(), who=machine.live(7, 1000), waited=False)
            machine.priorities[7] = Priority("normal", 19)
            callers.add(job)
            assert machine.told == [(job, ONE._replace(priority=Priority("normal", 19)))]

    run(story())


@pytest.mark.usefixtures("fast")
def test_limits_when_the_process_is_gone_then_the_last_stay_whoever_has_its_pid(tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            who = machine.live(7, 1000)
            job = await h.submit(spin(), who=who, waited=False)
            callers.add(job)
            machine.limits[7] = TWO
            await several_looks(machine)
            machine.live(7, 1001)
            machine.limits[7] = ONE
            await several_looks(machine)
            assert machine.told == [(job, TWO)]

    run(story())


@pytest.mark.usefixtures("fast")
def test_limits_when_they_cannot_be_read_then_the_last_stay(tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            job = await h.submit(spin(), who=machine.live(7, 1000), waited=False)
            callers.add(job)
            machine.limits[7] = Caller(frozenset(), -1, 0.0)
            await several_looks(machine)
            assert machine.told == []

    run(story())


@pytest.mark.usefixtures("fast")
def test_reading_when_all_jobs_have_ended_then_no_timer_and_nobody_held(tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            jobs = [await h.submit(spin(), who=machine.live(pid, 1), waited=False) for pid in (7, 7, 8)]
            for job in jobs:
                callers.add(job)
            await several_looks(machine)
            for job in jobs:
                h.engine.cancel(job)
            await h.ended(*jobs)
            assert len(callers) == 0
            reads = len(machine.reads)
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert len(machine.reads) == reads
            assert not any(job.watchers for job in jobs)

    run(story())


@pytest.mark.usefixtures("fast")
def test_reading_when_callers_are_many_then_a_few_in_each_turn_of_the_loop(tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(tmp_path) as (h, machine, callers):
            for pid in range(100, 140):
                callers.add(await h.submit(spin(), who=machine.live(pid, 1), waited=False))
            seen, most = len(machine.reads), 0
            while seen < 400:
                await asyncio.sleep(0)
                most, seen = max(most, len(machine.reads) - seen), len(machine.reads)
            assert 0 < most <= AT_ONCE
            assert set(machine.reads) == set(range(100, 140))

    run(story())


@contextmanager
def caller_in(*groups: Path) -> Iterator[Identity]:
    """The identity of a client that runs in these groups."""
    with sleeper(*groups) as pid:
        pidfd = os.pidfd_open(pid)
        try:
            yield replace(ME, pid=pid, pidfd=pidfd)
        finally:
            os.close(pidfd)


def quota(cpus: float) -> str:
    return str(int(cpus * 100_000))


@pytest.mark.other_uid
def test_job_when_its_callers_real_limits_change_then_followed_and_kept_at_its_end() -> None:
    async def story() -> None:
        parent = own_group("cpu")
        with cgroup(parent) as upper, cgroup(upper, name="own") as group, caller_in(group) as who:
            async with real_jobs() as h:
                known = describe(HostRoot(), who, h.topology)
                job = await h.submit(spin(), who=known, waited=False)
                for where, cpus, wanted in (
                    (group, 0.5, 0.5),
                    (group, 1.5, 1.5),
                    (group, 2, 2),
                    (upper, 1, 1),
                ):
                    (group / "cpu.cfs_quota_us").write_text("-1")
                    (where / "cpu.cfs_quota_us").write_text(quota(cpus))
                    await h.until(lambda wanted=wanted: job.caller.cpu_quota == wanted)  # type: ignore[misc]
                os.sched_setaffinity(who.pid, {0})
                await h.until(lambda: job.caller.cpus == {0})
                os.kill(who.pid, 9)
                # Nobody waits for it yet: its entry in /proc says now that it is in no group.
                (upper / "cpu.cfs_quota_us").write_text("-1")
                await asyncio.sleep(callers_module.PERIOD_S * 1.2)
                assert job.caller == Caller(frozenset({0}), job.caller.nid, 1.0)
                h.engine.cancel(job)
                await h.ended(job)

    run(story())


def test_pidfd_when_the_connection_is_closed_then_ours_still_holds_the_process() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        held: Any = Incarnation(HostRoot(), process.pid, pidfd)
        os.close(pidfd)
        assert held.alive
        process.kill()
        process.wait()
        assert not held.alive
        held.close()
