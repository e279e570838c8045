"""The parts of the daemon that GetStatus is made from and that the services steer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ktaskd.api.memory import PrivateMemory
from ktaskd.governor.governor import Governor
from ktaskd.host.pressure.cpuuse import CpuUseReader
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.intake.submit import Intake
from ktaskd.jobs.engine import Engine
from ktaskd.model.topology import Topology
from ktaskd.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Keys that a reload changed, by path, as in "jobs.keep_s"."""

    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Daemon:
    """The parts of the running daemon that the services read and steer.

    Args:
        reload: reads the configuration again; raises ReloadFailed.
        set_draining: stops or resumes the acceptance of jobs.
        limits: returns the limits in force, by name.
        counts: returns the counters of the doors, by name.
        raiser: knows the methods by which a helper can be raised.
        missing: returns what the daemon lacks on this machine now, in words.
        memory: private memory of the workers.
        cpu_use: reads the use of the CPUs, only while somebody watches it.
    """

    version: str
    start_s: float
    runtime_dir: str
    selftest: bool
    admin_uids: frozenset[int]
    topology: Topology
    pools: Sequence[Pool]
    engine: Engine
    intake: Intake
    governor: Governor
    reload: Callable[[], Reloaded]
    set_draining: Callable[[bool], Awaitable[None]]
    limits: Callable[[], Mapping[str, int]]
    counts: Callable[[], Mapping[str, int]]
    raiser: Raiser
    missing: Callable[[], Sequence[str]]
    memory: PrivateMemory
    cpu_use: CpuUseReader
