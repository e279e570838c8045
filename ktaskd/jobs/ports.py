"""Protocols of the workers, the pools and the kernel, as `jobs` uses them.

`pool.link.Worker` and `jobs.kernel.HostKernel` are the real ones; tests put doubles in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.priority import Priority
from ktaskd.model.worker import Applied, WorkerClass, WorkerState
from ktaskd.worker.frames import Op

Json = dict[str, Any]


class Worker(Protocol):
    """One worker process: its properties, and the messages to it.

    `pid` is 0 until the process was forked. The pid of a worker that `is_dying` must not be used.
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
    """Directory of the caller's memory cgroup that it is in; "" = ours."""
    priority: Priority
    base: Priority
    """The priority that it was started with; `priority` is its present one."""
    applied: Applied
    own_missing: tuple[str, ...]
    jnos: dict[int, frozenset[int]]
    """Jobs that it was sent, each with the sources that it needs until the job's end."""
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
        """Number of the chunk or step that it works on, and the position that it has reached."""

    @property
    def beats(self) -> int:
        """Number of quanta since it started."""

    def has_priority_for(self, caller: Priority, /) -> bool:
        """Whether it has the priority that a lead needs for a caller with this priority."""

    def serves(self, uid: int, /) -> bool:
        """Whether it holds nothing of another user."""

    def turn_to(self, uid: int, /) -> None:
        """Make it work for this user, after erasing everything of another user."""

    def send_source(self, sid: int, body: Json, fd: int, /) -> None:
        """Send a source, unless the worker has it already."""

    def forget_source(self, sid: int, /) -> None:
        """Have it unmap and close a source."""

    def send_items(self, jno: int, start: int, items: Sequence[HeldSource], /) -> None:
        """Send the items of a job's next chunk, which begins at `start`, with the sources that it has not."""

    def forget_items(self, sids: Iterable[int], /) -> None:
        """Have it close the sources that one chunk needed, except those that a job needs too."""

    def send_job(self, jno: int, body: Json, /) -> None:
        """Send a job, or more items of a job that was sent."""

    def forget_job(self, jno: int, /) -> None:
        """Have it drop a job."""

    def send_chunk(
        self, jno: int, start: int, end: int, /, *, nid: int = NUMA_NO_NODE, more: bool = False
    ) -> int:
        """Send a chunk; returns the number that its answer will carry."""

    def send_lease(
        self,
        jno: int,
        start: int,
        end: int,
        /,
        *,
        nid: int = NUMA_NO_NODE,
        slice_s: float = 0.0,
        sole: bool = False,
    ) -> int:
        """Send a lease to a worker that holds nothing; returns the number that its answers will carry."""

    @property
    def claim(self) -> int:
        """Position before which it may work in its lease without another look at the lease's end."""

    def shorten(self, end: int, /) -> int:
        """Let its lease end earlier; return where it ends. Raises OSError if that is not possible."""

    def send_step(self, jno: int, op: Op, payload: Json, /) -> int:
        """Send a step; returns the number that its answer will carry."""

    def recall(self) -> None:
        """Ask it to give back the remainder of every chunk that it was sent so far."""

    def note_rest(self, *, resting: bool) -> None:
        """Note that it rests in its chunk, or continues."""

    def resume(self) -> None:
        """Send SIGCONT."""

    def kill(self, why: str = "", /) -> None:
        """Send SIGKILL; `why` = its fault in words, "" = none."""

    def stop(self) -> None:
        """Let it end on its own."""

    def retire(self) -> None:
        """Let it end on its own, and have its pool replace it."""

    def taint(self) -> None:
        """Note that it gets code that is not ours, so that it has to end with its job.

        Its death counts when no process that the code started is left.
        """

    def ends_with_its_job(self) -> bool:
        """Let it end if it has run code that is not ours; return whether it does."""


class Admit(Protocol):
    """Starts a guest, as `GuestPool.admit` does; None = none is available now."""

    def __call__(
        self, memory_group: str, worker_class: WorkerClass, /, *, nid: int = -1, cpu: int = -1
    ) -> Worker | None:
        """Return a worker that is not ready yet; None = none is available now."""


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
    """The kernel, by the pid of a worker."""

    def cpu_seconds(self, pid: int, /) -> float:
        """Return the CPU seconds that a process has used so far; 0.0 if it is gone."""

    def state(self, pid: int, /) -> str:
        """Return its main thread's state as in proc_pid_stat(5): "R" = has or awaits a CPU; "" = gone."""

    def bind(self, pid: int, cpus: frozenset[int], /) -> bool:
        """Let a process run on these CPUs only; return False if it is gone or not ours."""

    def set_priority(self, pid: int, priority: Priority, /) -> Mapping[str, OSError]:
        """Set nice value, policy and I/O class; return the errors of those that could not be set."""


class Raiser(Protocol):
    """Raises and lowers helpers; `host.scheduling.raising` has the real one."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods that work on this machine, in words."""

    def raise_(self, pid: int) -> bool:
        """Give a process normal priority; return whether that worked in full. It may work the next time."""

    def lower(self, pid: int) -> bool:
        """Give it a helper's priority again; return whether that worked in full, or the process is gone."""


class NoRaiser:
    """The raiser of a machine on which no helper can be raised."""

    methods: tuple[str, ...] = ()

    def raise_(self, pid: int) -> bool:
        """Return False: nothing was raised."""
        return False

    def lower(self, pid: int) -> bool:
        """Return True: nothing is to be lowered."""
        return True
