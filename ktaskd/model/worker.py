"""Words about workers that several rooms share."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from ktaskd.model.priority import Priority


class WorkerClass(Enum):
    """The priority a worker has."""

    HELPER = "helper"
    LEAD = "lead"


class WorkerState(Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class Placement:
    """What a worker shall apply to itself before its first chunk.

    Args:
        cpus: CPUs to bind to; empty = leave as it is.
        nid: node for its memory policy; -1 = leave as it is.
        uid, gid: user to become; -1 = stay.
        memory_group: directory of the memory cgroup to move into; "" = stay.
        own_code: it may be given code of its own user, who serves nobody else: then it gives
            the network and other processes up only for a job that is none of that.
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
    """What a worker has, read back from the kernel after it set itself up.

    Args:
        policy: "idle", "normal", "batch" or "other".
        ioprio: "idle", "best-effort:N", "realtime:N" or "none".
        autogroup_nice: nice value of its autogroup; None where there is none.
        mempolicy: "bind:N", "prefer:N" or "default".
        gives_way_by: what makes a helper give way to all others: "idle slice",
            "idle cgroup", "autogroup", or "SCHED_IDLE" where no group stands
            between it and them; "" = nothing, or it is a lead.
        gave_up: what it can never do any more, in words.
        missing: what could not be applied and how to get it, in words.
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
        """The priority that it was started with."""
        return Priority(self.policy or "normal", self.nice, self.ioprio or "none")
