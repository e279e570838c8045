"""Workers that serve one job each, inside the memory cgroup of its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.model.worker import Placement, WorkerClass
from ktaskd.pool.link import Listener, Worker
from ktaskd.pool.pool import Pool, PoolSpec

GUESTS_MAX = 32
"""Guests at one time; they count against the allowance, which is mostly reached before."""


class GuestPool(Pool):
    """A pool that is empty until a job needs a worker in its caller's memory cgroup.

    A guest is forked, moves into that cgroup before it says that it is ready,
    serves one job, and ends with it: it is never used for another caller, and the
    pool host stays in our cgroup. The host is started with the first guest: most
    machines never need one.
    """

    def __init__(
        self,
        spec: PoolSpec,
        listener: Listener,
        ids: Callable[[], int],
        *,
        group: IdleGroup | None = None,
        raise_: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Nothing runs yet. Of `spec` the name, the user and the CPUs count."""
        # Guests end with their job, and not because they are idle.
        spec = replace(
            spec, worker_class=WorkerClass.LEAD, nid=-1, size=GUESTS_MAX, warm=0, idle_timeout_s=0.0
        )
        super().__init__(spec, listener, ids, group=group, raise_=raise_)
        self._needed = False

    def start(self) -> None:
        """Start the pool host, unless there was no guest yet or it runs already."""
        if self._needed and not self._host.is_there:
            super().start()

    def admit(
        self, memory_group: str, worker_class: WorkerClass, *, nid: int = -1, cpu: int = -1
    ) -> Worker | None:
        """Start a guest; it may be given work once it has said that it is ready.

        Args:
            memory_group: directory of the cgroup that it works in.
            nid, cpu: the node and the CPU of a helper; -1 for a lead.
        Returns:
            The worker, or None if there are as many guests as there may be, or
            no process can be started now.
        """
        slot = next((slot for slot in self.slots if not slot.wanted), None)
        if slot is None or self._closing:
            return None
        self._needed = True
        self.start()
        if not self._host.is_there:
            return None  # it is tried again
        cpus = frozenset([cpu] if cpu >= 0 else self.spec.cpus)
        spec = self.spec
        slot.guest = Placement(worker_class, cpus, nid, spec.uid, spec.gid, memory_group, spec.own_code)
        slot.cpu, slot.wanted = cpu, True
        self._spawn(slot)
        return slot.worker
