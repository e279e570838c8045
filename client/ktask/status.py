"""The state of a daemon and its workers, as frozen dataclasses; no protobuf in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ktask.results import Job, Reason


@dataclass(frozen=True, slots=True)
class Node:
    """One NUMA node with the CPUs that the daemon may use."""

    nid: int
    cpulist: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process and the settings that the daemon has read back from it.

    Args:
        missing: settings that could not be applied, and how to enable them.
        gives_way_by: "idle slice", "idle cgroup" or "autogroup"; "" for a lead,
            or if nothing makes it give way.
        raised: whether it has normal priority now, to finish a chunk.
        gave_up: what it has given up for good, in words.
    """

    id: int
    pid: int
    state: str
    cpulist: str
    policy: str
    nice: int
    ioprio: str
    oom_score_adj: int
    autogroup_nice: int | None
    cgroup: str
    mempolicy: str
    missing: tuple[str, ...]
    job_id: str
    chunks: int
    respawns: int
    private_bytes: int
    uid: int
    gives_way_by: str = ""
    raised: bool = False
    gave_up: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one node, or the leads; worker_class is HELPER or LEAD."""

    name: str
    worker_class: str
    nid: int
    host_pid: int
    workers: tuple[Worker, ...]
    host_respawns: int


@dataclass(frozen=True, slots=True)
class NodeAllowance:
    """How many helpers may run on one node, and how many hold a chunk now."""

    nid: int
    helpers: int
    busy: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many workers may run now, and every reason for fewer.

    `level` is RUN, FEWER, LEADS_ONLY or PAUSED; PAUSED also holds detached jobs back.
    """

    nodes: tuple[NodeAllowance, ...]
    leads: int
    leads_per_uid: int
    reasons: tuple[Reason, ...]
    level: str = "UNSPECIFIED"
    share: float = 1.0
    """Part of the time in which helpers may work, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading that decides whether helpers may run, in words."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon as it is; the contract explains every field.

    Args:
        mode: AUTO, ALWAYS or PAUSED.
        mode_until: when the mode returns to AUTO; None = never.
        readings: what the daemon has read of the machine.
        raising: methods to raise a starved helper that work here, best first.
    """

    version: str
    pid: int
    start_time: datetime | None
    mode: str
    draining: bool
    nodes: tuple[Node, ...]
    cpulist: str
    pools: tuple[Pool, ...]
    allowance: Allowance
    limits: Mapping[str, int]
    counters: Mapping[str, int]
    missing: tuple[str, ...]
    runtime_dir: str
    selftest: bool
    mode_until: datetime | None = None
    readings: tuple[Reading, ...] = ()
    raising: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CpuUse:
    """Fractions of the time that helpers, leads and all other programs used one CPU, 0 to 1 each."""

    cpu: int
    helpers: float
    leads: float
    others: float


@dataclass(frozen=True, slots=True)
class Present:
    """One message of a watched status: the daemon, the caller's jobs, and the use of the CPUs.

    Args:
        jobs: unended ones, and those that ended a moment ago; without results.
        jobs_omitted: how many more unended jobs the caller has.
        cpus: empty until there are two readings.
    """

    status: Status
    jobs: tuple[Job, ...] = ()
    jobs_omitted: int = 0
    cpus: tuple[CpuUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Drained:
    """Whether the daemon refuses new jobs now, and how many jobs have not ended."""

    draining: bool
    jobs_left: int


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Paths of the configuration keys that changed: applied ones, and those that need a restart."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]
