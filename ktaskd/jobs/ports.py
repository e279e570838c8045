"""Workers, pools and the kernel as jobs use them: protocols.

`pool.link.Worker` and `jobs.kernel.HostKernel` are the real ones; tests put doubles in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.priority import Priority
from ktaskd.model.worker import Applied, WorkerClass, WorkerState
from ktaskd.worker.frames import Op

Json = dict[str, Any]


class Worker(Protocol):
    """One worker process: what is known of it, and what it can be sent.

    `pid` is 0 until it has been forked. Nothing may be done by the pid of a worker that `is_dying`.
    """

    id: int
    pid: int
    worker_class: WorkerClass
    nid: int
    """Its node; -1 for a lead."""
    cpu: int
    """The CPU that it was started on; -1 for a lead."""
    state: WorkerState
    memory_group: str
    """Directory of the memory cgroup of a caller that it works in; "" = ours."""
    priority: Priority
    base: Priority
    """The priority that it was started with; `priority` is what it has now."""
    applied: Applied
    own_missing: tuple[str, ...]
    jnos: dict[int, frozenset[int]]
    """Jobs that it knows, each with the sources that it needs to its end."""
    retired: bool
    resting: bool
    tainted: bool
    """Whether it has run code that is not ours."""

    def __hash__(self) -> int:
        """Differs between workers that live at the same time."""

    @property
    def is_lead(self) -> bool:
        """Whether it runs at normal priority, for a caller that waits."""

    @property
    def is_dying(self) -> bool:
        """Whether it was killed or is dead."""

    @property
    def position(self) -> tuple[int, int]:
        """Number of the chunk or step that it works on, and how far it is."""

    @property
    def beats(self) -> int:
        """Quanta worked since it started."""

    def has_priority_for(self, caller: Priority, /) -> bool:
        """Whether it has the priority of a lead that stands in for such a caller."""

    def serves(self, uid: int, /) -> bool:
        """Whether nothing of another user is in it."""

    def turn_to(self, uid: int, /) -> None:
        """Work for this user from now on; what it has of another one is erased first."""

    def send_source(self, sid: int, body: Json, fd: int, /) -> None:
        """Send a source, unless the worker has it."""

    def forget_source(self, sid: int, /) -> None:
        """Have it unmap and close a source."""

    def forget_item(self, sid: int, /) -> None:
        """Have it close a source that one chunk needed, unless a job needs it too."""

    def send_job(self, jno: int, body: Json, /) -> None:
        """Send what a job is, or more items of one that it knows."""

    def forget_job(self, jno: int, /) -> None:
        """Have it drop a job."""

    def send_chunk(
        self, jno: int, start: int, end: int, /, *, nid: int = NUMA_NO_NODE, more: bool = False
    ) -> int:
        """Send a chunk; returns the number that its answer will carry."""

    def send_call(self, jno: int, op: Op, payload: Json, /) -> int:
        """Send a step; returns the number that its answer will carry."""

    def recall(self) -> None:
        """Ask for the rest of every chunk that it was sent so far."""

    def note_rest(self, *, resting: bool) -> None:
        """Note that it sleeps in its chunk, or works on."""

    def resume(self) -> None:
        """Send SIGCONT."""

    def kill(self, why: str = "", /) -> None:
        """Send SIGKILL; `why` says what it did wrong, "" = nothing."""

    def stop(self) -> None:
        """Let it end by itself."""

    def retire(self) -> None:
        """Let it end by itself, and another one take its place."""

    def taint(self) -> None:
        """Note that it gets code that is not ours, so that it ends with its job.

        It counts as dead when nothing is left of what that code has started.
        """

    def ends_with_its_job(self) -> bool:
        """Let it end if it has run code that is not ours; whether it does."""


class Admit(Protocol):
    """Starts a guest, as `GuestPool.admit` does; None = none is available now."""

    def __call__(
        self, memory_group: str, worker_class: WorkerClass, /, *, nid: int = -1, cpu: int = -1
    ) -> Worker | None:
        """The worker, which is not ready yet."""


@dataclass(frozen=True, slots=True)
class PoolRequests:
    """Requests to the pools.

    Args:
        want_leads: asks the pool of leads for at least this many.
        want_helpers: asks the pool of a node for at least this many helpers: (node, count).
        admit: starts a guest.
    """

    want_leads: Callable[[int], None]
    want_helpers: Callable[[int, int], None]
    admit: Admit


class Kernel(Protocol):
    """The kernel, asked about the process of a worker by its pid."""

    def cpu_seconds(self, pid: int, /) -> float:
        """CPU seconds that a process has used so far; 0.0 if it is gone."""

    def state(self, pid: int, /) -> str:
        """State of its main thread as proc_pid_stat(5) has it, "R" runs or waits for a CPU; "" = gone."""

    def bind(self, pid: int, cpus: frozenset[int], /) -> bool:
        """Let a process run on these CPUs only; False if it is gone or not ours."""

    def set_priority(self, pid: int, priority: Priority, /) -> Mapping[str, OSError]:
        """Set nice value, policy and I/O class; returns what could not be set."""


class Raiser(Protocol):
    """Raises and lowers helpers; `host.scheduling.raising` has the real one."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that work on this machine, in words."""

    def raise_(self, pid: int) -> bool:
        """Give a process normal priority; whether that worked, else it may next time."""

    def lower(self, pid: int) -> bool:
        """Make it a helper again; True too if it is gone."""


class NoRaiser:
    """For a machine on which nothing can be raised."""

    methods: tuple[str, ...] = ()

    def raise_(self, pid: int) -> bool:
        """Return False: nothing was raised."""
        return False

    def lower(self, pid: int) -> bool:
        """Return True: nothing is to be lowered."""
        return True
