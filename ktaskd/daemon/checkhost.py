"""`ktaskd --check-host`: whether helpers really give way on this machine, measured.

A helper is started as the daemon starts its own, by a pool and its host, and
is set beside busy loops that want the same CPU. Where it is to be measured
how a service does, this is to be started as that service is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ktaskd.daemon import machine
from ktaskd.daemon.config import Config
from ktaskd.host import cpugroup, idlegroup, rival, sched
from ktaskd.host.idlegroup import IdleGroup, IdleGroupRefused
from ktaskd.host.raising import Raiser
from ktaskd.host.root import HostRoot
from ktaskd.host.topology import read_topology
from ktaskd.model.topology import format_cpulist
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.link import Death, Worker
from ktaskd.pool.pool import Pool, PoolSpec
from ktaskd.pool.starting import HelpersUnit
from ktaskd.worker.frames import Done, Note

GIVES_WAY_BELOW = 0.05
"""Share of one CPU beside one rival that a helper may keep. A nice-19 autogroup
keeps 0.015 (weights 15 and 1024), cpu.idle less; what does not give way, 0.5."""
RAISED_ABOVE = 0.30
"""Share of a helper that was raised, beside one rival; half would be fair."""

MEASURE_S = 1.0
"""CPU time that both together have used when a share is taken."""
PATIENCE_S = 30.0
"""For one step; a machine that is so busy can tell nothing."""


@dataclass(slots=True)
class Findings:
    """What was found, as pairs of a name and words; and whether helpers give way."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    gives_way_by: str = ""
    advice: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """One line more."""
        self.lines.append((name, text))

    @property
    def good(self) -> bool:
        """Whether a helper gave way each time, and would to rivals that could not be had."""
        return bool(self.gives_way_by and self.shares) and max(self.shares) < GIVES_WAY_BELOW

    def format(self) -> str:
        """All of it, for people."""
        lines = [f"{name:<24}{text}" for name, text in self.lines]
        lines += [f"{'to change':<24}{text}" for text in self.advice]
        verdict = (
            f"helpers give way here, by {self.gives_way_by}" if self.good else "helpers do not give way here"
        )
        return "\n".join([*lines, f"{'verdict':<24}{verdict}"])


class _Ears:
    """Hears of one worker that it is ready, or that it is dead."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Worker | Death] = asyncio.Queue()

    def on_ready(self, worker: Worker) -> None:
        self.told.put_nowait(worker)

    def on_done(self, worker: Worker, done: Done) -> None:
        """Nothing: the chunk is given back at the end."""

    def on_note(self, worker: Worker, note: Note) -> None:
        """Nothing is asked of it."""

    def on_dead(self, worker: Worker, death: Death) -> None:
        self.told.put_nowait(death)


def check_host(config: Config) -> int:
    """Measure, and print what was found; 0 = helpers give way, 1 = they do not."""
    found = Findings()
    try:
        asyncio.run(_check(config, found))
    except (TimeoutError, OSError) as error:
        found.add("not measured", str(error) or f"nothing happened for {PATIENCE_S:.0f} s")
    print(found.format())
    return 0 if found.good else 1


async def _check(config: Config, found: Findings) -> None:
    root = HostRoot()
    _describe_host(root, found)
    group, why = machine.make_idle_group(config.workers)
    try:
        if config.workers.idle_group == "never":
            why = "idle cgroup: not wanted by workers.idle_group"
        if config.workers.helpers_socket:
            why = f"idle cgroup: helpers come from {config.workers.helpers_socket}"
        found.add("own idle cgroup", str(group.path) if group else why.partition(": ")[2] or "not needed")
        await _measure(config, root, group, found)
    finally:
        if group is not None:
            group.close()


def _describe_host(root: HostRoot, found: Findings) -> None:
    """What decides about priorities on this machine."""
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    nodes = [f"{node.nid}: CPUs {format_cpulist(node.cpus) or 'none'}" for node in topology.nodes]
    found.add("nodes", "; ".join(nodes))
    place = cpugroup.read_cpu_place(root)
    found.add("cgroups", cpugroup.describe(root))
    if place.enclosed:
        found.add("container", "what is outside of it has the weight of this container against it, always")
    found.add(
        "systemd", "manages the cgroups" if idlegroup.is_managed(root) else "does not manage the cgroups"
    )
    found.add("autogroup", _describe_autogroup())
    psi = os.access(root.proc / "pressure/cpu", os.R_OK)
    found.add("pressure (PSI)", "can be read" if psi else "cannot be read: boot with psi=1")


def _describe_autogroup() -> str:
    nice = sched.read_autogroup_nice()
    if nice is not None:
        return f"on, nice {nice} for this session"
    return "on, this session is in none" if sched.has_autogroups() else "none, or off"


async def _measure(config: Config, root: HostRoot, group: IdleGroup | None, found: Findings) -> None:
    cpu = max(os.sched_getaffinity(0))
    doors = (group.idle_fd, group.normal_fd) if group else (-1, -1)
    starter = machine.helpers_unit(config.workers, -1, os.close)
    async with _helper(config, root, group, cpu, starter) as worker:
        applied = worker.applied
        found.gives_way_by = applied.gives_way_by
        found.add(
            "helper",
            f"{applied.policy} policy, nice {applied.nice}, disk {applied.ioprio}, autogroup nice "
            f"{applied.autogroup_nice}, cgroup {applied.cgroup or 'none'}, uid {applied.uid}",
        )
        found.add("gives way by", applied.gives_way_by or "nothing")
        found.advice += [text for text in applied.missing if text not in found.advice]
        with contextlib.closing(Raiser(*doors)) as raiser:
            await _race_all(worker, cpu, root, raiser, found)


async def _race_all(worker: Worker, cpu: int, root: HostRoot, raiser: Raiser, found: Findings) -> None:
    """One rival after the other; then the helper is raised, and lowered again."""
    await _patiently(lambda: raiser.find_out(worker.pid))
    found.add("raising by", ", ".join(raiser.ways) or "nothing")
    found.advice += raiser.missing
    top: Path | None = None
    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(rival.group_for_rival(root))
            top = group.parent
            other = stack.enter_context(rival.rival_on(cpu, group))
            await _race(worker.pid, other, "beside another cgroup", found)
        except IdleGroupRefused as error:
            found.add("beside another cgroup", f"not measured: {error}")
    # In the root, so that nothing but its session is what it has of its own.
    with rival.rival_on(cpu, top) as other:
        await _race(worker.pid, other, "beside another session", found)
        raised = await _raised(raiser, worker.pid)
        share = await _share(worker.pid, other)
        enough = "" if share > RAISED_ABOVE else ": a chunk that cannot be cut may never end"
        found.add("raised" if raised else "raised as far as can be", f"the helper keeps {share:.1%}{enough}")
        await _patiently(lambda: raiser.lower(worker.pid))
        await _race(worker.pid, other, "lowered again", found)


async def _raised(raiser: Raiser, pid: int) -> bool:
    """Raise it, as far as can be; a change of an autogroup may have to wait."""
    for _ in range(20):
        if raiser.raise_(pid):
            return True
        await asyncio.sleep(0.1)
    return False


async def _race(helper: int, other: int, name: str, found: Findings) -> None:
    share = await _share(helper, other)
    found.shares.append(share)
    found.add(name, f"the helper keeps {share:.1%} of the CPU")


async def _share(helper: int, other: int) -> float:
    race = rival.Race(helper, other)
    await _patiently(lambda: sum(race.used) >= MEASURE_S)
    return race.share


async def _patiently(reached: Callable[[], bool]) -> None:
    """Look ten times a second; raises TimeoutError when it never will be."""
    until_s = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > until_s:
            raise TimeoutError
        await asyncio.sleep(0.1)


async def _first(ears: _Ears, pool: Pool) -> Worker | Death:
    try:
        return await asyncio.wait_for(ears.told.get(), PATIENCE_S)
    except TimeoutError:
        raise TimeoutError(pool.trouble) from None


@asynccontextmanager
async def _helper(
    config: Config, root: HostRoot, group: IdleGroup | None, cpu: int, starter: HelpersUnit | None
) -> AsyncIterator[Worker]:
    """A helper of a real pool that burns its CPU."""
    user = machine.worker_user(config.workers, os.geteuid())
    nid = read_topology(root, frozenset(os.sched_getaffinity(0))).nid_of(cpu)
    ears, numbers = _Ears(), itertools.count(1)
    spec = PoolSpec("check", WorkerClass.HELPER, nid, (cpu,), 1, 1, user.uid, user.gid)
    pool = Pool(spec, ears, lambda: next(numbers), group=group, starter=starter)
    pool.start()
    worker: Worker | Death | None = None
    try:
        worker = await _first(ears, pool)
        if isinstance(worker, Death):
            raise ChildProcessError(f"a helper could not be started: {worker}")
        body = {
            "function": "selftest.spin",
            "arg": {"ms": 3_600_000},
            "sources": {},
            "span": [0, 1],
            "whole": True,
        }
        worker.send_job(1, body)
        worker.send_chunk(1, 0, 1)
        yield worker
    finally:
        if isinstance(worker, Worker):
            worker.kill()
        await pool.close(PATIENCE_S)
