"""Types about workers that several packages share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ktaskd.model.priority import Priority


class WorkerClass(Enum):
    """The two classes of workers, which differ in their priority."""

    HELPER = "helper"
    LEAD = "lead"


class WorkerState(Enum):
    """The states of a worker."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class Placement:
    """The settings that a worker applies to itself before its first chunk.

    Args:
        cpus: CPUs to bind to; empty = no change.
        nid: node for its memory policy; -1 = no change.
        uid, gid: user to become; -1 = no change.
        memory_group: directory of the memory cgroup to enter; "" = no change.
        own_code: the worker may get its user's own code, in a daemon that serves only that user. It
            then gives up the network and other processes only before the first other job.
    """

    worker_class: WorkerClass
    cpus: frozenset[int] = frozenset()
    nid: int = -1
    uid: int = -1
    gid: int = -1
    memory_group: str = ""
    own_code: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """The settings of a worker, read back from the kernel after its setup.

    Args:
        policy: "idle", "normal", "batch" or "other".
        ioprio: "idle", "best-effort:N", "realtime:N" or "none".
        autogroup_nice: nice value of its autogroup; None = it has none.
        mempolicy: "bind:N", "prefer:N" or "default".
        gives_way_by: what makes a helper give way to all others: "idle slice", "idle cgroup",
            "autogroup", or "SCHED_IDLE" if no group separates it from them; "" = nothing does, or
            it is a lead.
        gave_up: rights that it has given up for good, in words.
        missing: settings that could not be applied, each with the remedy, in words.
    """

    cpus: frozenset[int] = frozenset()
    policy: str = ""
    nice: int = 0
    ioprio: str = ""
    oom_score_adj: int = 0
    autogroup_nice: int | None = None
    cgroup: str = ""
    mempolicy: str = ""
    uid: int = 0
    gives_way_by: str = ""
    gave_up: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default_factory=tuple)

    @property
    def priority(self) -> Priority:
        """The priority with which it was started."""
        return Priority(self.policy or "normal", self.nice, self.ioprio or "none")
