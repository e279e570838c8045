"""What the daemon tells of itself: the parts that GetStatus is made from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ktaskd.api.memory import PrivateMemory
from ktaskd.governor.governor import Governor
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.intake.submit import Intake
from ktaskd.jobs.engine import Engine
from ktaskd.model.topology import Topology
from ktaskd.pool.pool import Pool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed: paths of keys, as in "jobs.keep_s"."""

    applied: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


@dataclass(slots=True)
class Daemon:
    """The parts of the running daemon that the services look at and steer.

    Args:
        reload: reads the configuration again; raises ReloadFailed.
        set_draining: stops or resumes the acceptance of jobs.
        limits: bounds in force, by name.
        counts: counters that other rooms keep, by name.
        raiser: knows in which ways a helper can be raised.
        missing: gives what the daemon lacks on this machine now, in words.
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
    missing: Callable[[], Sequence[str]] = tuple
    memory: PrivateMemory = field(init=False)

    def __post_init__(self) -> None:
        """Read the memory of whoever is a worker then."""
        self.memory = PrivateMemory(
            lambda: [worker.pid for pool in self.pools for worker in pool.workers if worker.pid]
        )
