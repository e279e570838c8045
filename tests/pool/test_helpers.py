"""Real helpers next to real rivals: they give way, are raised, and give way again.

Fractions are of the CPU time that helper and rival used over the same period, so a busy machine
only makes the tests slower.

Tests: ktaskd/pool/pool.py, ktaskd/host/scheduling/raising.py
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cpugroup import read_cpu_groups
from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.host.scheduling.rival import Race, rival_on
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import Pool, PoolHooks, PoolSpec
from tests.pool.realpool import WorkerEvents, run
from tests.support.groups import idle_group
from tests.support.users import NOBODY, OtherUsers

pytestmark = pytest.mark.alone  # fractions of a CPU

CPU = max(os.sched_getaffinity(0))
CPU_S = 0.5
"""CPU seconds of both together for one measurement."""


@asynccontextmanager
async def helper(
    group: IdleGroup | None, uid: int = -1, raise_: Callable[[int], object] = lambda _: None
) -> AsyncIterator[Worker]:
    """A helper that uses all of its CPU."""
    events, numbers = WorkerEvents(), itertools.count(1)
    spec = PoolSpec("test", WorkerClass.HELPER, 0, (CPU,), 1, 1, uid, uid)
    made = Pool(spec, events, lambda: next(numbers), group=group, hooks=PoolHooks(raise_=raise_))
    made.start()
    try:
        await events.until(lambda: events.ready)
        (worker,) = events.ready
        body = {"function": "selftest.spin", "arg": {"ms": 3_600_000}, "sources": {}, "span": [0, 1]}
        worker.send_job(1, {**body, "whole": True})
        worker.send_chunk(1, 0, 1)
        yield worker
    finally:
        for worker in made.workers:
            worker.kill()
        await made.close(20.0)


def raiser_for(group: IdleGroup | None) -> Raiser:
    return Raiser(group.idle_fd, group.normal_fd) if group else Raiser()


async def share(worker: Worker, rival: int) -> float:
    race = Race(worker.pid, rival)
    await until(lambda: sum(race.used) > CPU_S)
    return race.fraction


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def wanted_group(wanted: bool) -> Iterator[IdleGroup | None]:
    if wanted:
        with idle_group() as group:
            yield group
    else:
        yield None


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    "uid", [-1, pytest.param(NOBODY, marks=pytest.mark.other_uid)], ids=["same_uid", "nobody"]
)
def test_helper_when_raised_then_it_gets_the_cpu_and_when_lowered_it_gives_way(
    grouped: bool, uid: int
) -> None:
    async def story() -> None:
        with wanted_group(grouped) as group, contextlib.closing(raiser_for(group)) as raiser:
            async with helper(group, uid) as worker:
                applied = worker.applied
                if group is not None:
                    assert applied.gives_way_by == "idle cgroup"
                    assert applied.cgroup == f"/{group.path.name}"
                await until(lambda: raiser.find_out(worker.pid))
                assert raiser.known
                with rival_on(CPU) as rival:
                    before = await share(worker, rival)
                    raised = raiser.raise_(worker.pid)
                    during = await share(worker, rival)
                    await until(lambda: raiser.lower(worker.pid))
                    after = await share(worker, rival)
                if not applied.gives_way_by:
                    assert any(text.startswith("giving way:") for text in applied.missing)
                    return  # a helper with an ordinary weight cannot be raised
                assert before < 0.05
                assert after < 0.05
                assert raised == (not raiser.missing)
                if raised:
                    assert during > 0.3

    run(story())


def test_ways_when_found_out_then_the_helper_is_low_again() -> None:
    async def story() -> None:
        with idle_group() as group, contextlib.closing(raiser_for(group)) as raiser:
            async with helper(group) as worker:
                before = read_cpu_groups(HostRoot(), str(worker.pid))
                await until(lambda: raiser.find_out(worker.pid))
                assert os.sched_getscheduler(worker.pid) == os.SCHED_IDLE
                assert os.getpriority(os.PRIO_PROCESS, worker.pid) == 19
                assert read_cpu_groups(HostRoot(), str(worker.pid)) == before
                autogroup = Path(f"/proc/{worker.pid}/autogroup")
                assert not autogroup.exists() or autogroup.read_text().endswith(" nice 19\n")
                if os.geteuid() == 0:
                    assert "SCHED_OTHER and nice 0" in raiser.methods
                if group is not None:
                    assert raiser.methods[0] == "out of the idle cgroup"

    run(story())


def test_ways_when_the_daemon_is_in_no_autogroup_then_that_of_the_helper_counts(tmp_path: Path) -> None:
    """As if the daemon was started in the kernel's first session, by the init of a container."""

    async def story() -> None:
        async with helper(None) as worker:
            if worker.applied.gives_way_by != "autogroup":
                return
            root = machine_without_own_autogroup(tmp_path, worker.pid)
            with contextlib.closing(Raiser(root=root)) as raiser:
                await until(lambda: raiser.find_out(worker.pid))
                assert "autogroup nice 0" in raiser.methods
                assert not raiser.missing

    run(story())


def machine_without_own_autogroup(top: Path, pid: int) -> HostRoot:
    """This machine, except for one file."""
    own = top / "proc/self"
    own.mkdir(parents=True)
    (own / "autogroup").write_text("")
    for name in ("cgroup", "mountinfo", "mounts"):
        (own / name).symlink_to(f"/proc/{os.getpid()}/{name}")
    for path in ("sys", f"proc/{pid}", "proc/sys", "proc/mounts", "proc/cgroups"):
        (top / path).symlink_to(f"/{path}")
    return HostRoot(top)


def test_group_when_somebody_else_made_it_then_its_doors_are_found() -> None:
    """As with a slice of systemd, for which the daemon has no descriptors."""

    async def story() -> None:
        with idle_group() as group, contextlib.closing(Raiser()) as raiser:
            if group is None:
                return
            async with helper(group) as worker:
                await until(lambda: raiser.find_out(worker.pid))
                assert raiser.methods[0] == "out of the idle cgroup"
                assert raiser.raise_(worker.pid)
                assert read_cpu_groups(HostRoot(), str(worker.pid)) == read_cpu_groups(HostRoot())
                assert raiser.lower(worker.pid)
                assert read_cpu_groups(HostRoot(), str(worker.pid)).path == f"/{group.path.name}"

    run(story())


def test_helper_when_killed_then_raised_once_since_to_die_takes_cpu_time() -> None:
    async def story() -> None:
        raised: list[int] = []
        async with helper(None, raise_=raised.append) as worker:
            pid = worker.pid
            worker.kill()
            worker.kill()
            assert raised == [pid]

    run(story())


def test_raise_when_the_process_is_gone_then_false_and_there_is_nothing_to_lower() -> None:
    raiser = Raiser()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    assert not raiser.raise_(pid)
    assert raiser.lower(pid)
    assert not raiser.find_out(pid)
    assert not raiser.known


def test_host_when_its_workers_are_raised_to_die_then_only_helpers_were_in_the_group() -> None:
    async def story() -> None:
        with idle_group() as group:
            if group is None:
                return
            async with helper(group) as worker:
                inside = (group.path / "cgroup.procs").read_text().split()
                assert inside == [str(worker.pid)]
                # The worker has no cgroup.procs of any group left.
                fds = [os.readlink(entry) for entry in Path(f"/proc/{worker.pid}/fd").iterdir()]
                assert not [target for target in fds if "cgroup" in target]

    run(story())


def test_worker_when_its_group_is_gone_then_reported_and_the_next_best_is_taken() -> None:
    async def story() -> None:
        with idle_group() as group:
            if group is None:
                return
            group.path.rmdir()
            async with helper(group) as worker:
                assert worker.applied.gives_way_by == "autogroup"
                assert [text for text in worker.applied.missing if text.startswith("idle cgroup ")]
            group.path.mkdir()  # for the fixture to remove

    run(story())


@pytest.mark.other_uid
def test_autogroup_when_the_daemon_has_no_rights_then_it_raises_its_own_helpers(run_as: OtherUsers) -> None:
    code = """
import asyncio, itertools, os
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.host.scheduling.rival import Race, rival_on
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.pool import Pool, PoolHooks, PoolSpec

CPU = max(os.sched_getaffinity(0))

class WorkerEvents:
    def __init__(self): self.ready = asyncio.Queue()
    def on_ready(self, worker): self.ready.put_nowait(worker)
    def on_done(self, worker, done): pass
    def on_report(self, worker, report): pass
    def on_dead(self, worker, death): pass

async def share(worker, rival):
    race = Race(worker.pid, rival)
    while sum(race.used) < 0.5:
        await asyncio.sleep(0.05)
    return race.fraction

async def main():
    events, numbers, raiser = WorkerEvents(), itertools.count(1), Raiser()
    pool = Pool(PoolSpec("test", WorkerClass.HELPER, 0, (CPU,), 1, 1), events, lambda: next(numbers))
    pool.start()
    worker = await events.ready.get()
    worker.send_job(1, {"function": "selftest.spin", "arg": {"ms": 1e6}, "sources": {}, "span": [0, 1],
                        "whole": True})
    worker.send_chunk(1, 0, 1)
    while not raiser.find_out(worker.pid):
        await asyncio.sleep(0.05)
    shares = []
    with rival_on(CPU) as rival:
        shares.append(await share(worker, rival))
        while not (raised := raiser.raise_(worker.pid)) and raiser.methods:
            await asyncio.sleep(0.05)
        shares.append(await share(worker, rival))
        while not raiser.lower(worker.pid):
            await asyncio.sleep(0.05)
        shares.append(await share(worker, rival))
    worker.kill()
    await pool.close(20.0)
    print([worker.applied.gives_way_by, list(raiser.methods), shares])

asyncio.run(main())
"""
    done = run_as(NOBODY, code)
    assert done.returncode == 0, done.stderr
    by, ways, (before, during, after) = eval(done.stdout)
    if by == "autogroup":
        assert ways == ["autogroup nice 0"]
        assert before < 0.05
        assert during > 0.3
        assert after < 0.05


# -- a daemon that is gone ----------------------------------------------------------------


def test_host_when_its_daemon_dies_then_the_group_is_gone() -> None:
    async def story() -> None:
        with idle_group() as group:
            if group is None:
                return
            events, numbers = WorkerEvents(), itertools.count(1)
            spec = PoolSpec("test", WorkerClass.HELPER, 0, (CPU,), 1, 1)
            made = Pool(spec, events, lambda: next(numbers), group=group)
            made.start()
            await events.until(lambda: events.ready)
            # The signal that the kernel sends when its parent dies.
            made._closing = True
            os.kill(made.host_pid, signal.SIGTERM)
            await until(lambda: not group.path.exists())
            await made.close(20.0)
            assert len(events.dead) == 1
            group.path.mkdir()  # for the fixture to remove

    run(story())
