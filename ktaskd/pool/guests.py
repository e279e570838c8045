"""Workers that serve one job each, inside the memory cgroup of the job's caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.model.worker import Placement, WorkerClass
from ktaskd.pool.link import Listener, Worker
from ktaskd.pool.pool import Pool, PoolHooks, PoolSpec

GUESTS_MAX = 32
"""Most guests at the same time. They also count against the allowance, which is mostly lower."""


class GuestPool(Pool):
    """A pool that is empty until a job needs a worker in its caller's memory cgroup.

    A guest is forked, moves into that cgroup before it reports that it is ready, serves one job,
    and ends with it. So it never serves another caller, and the pool host stays in our cgroup.
    The host is started with the first guest, since most machines never need one.
    """

    def __init__(
        self,
        spec: PoolSpec,
        listener: Listener,
        ids: Callable[[], int],
        *,
        group: IdleGroup | None = None,
        hooks: PoolHooks | None = None,
    ) -> None:
        """Start nothing yet. Uses the name, the user and the CPUs of `spec`."""
        # Guests end with their job, and never because they are idle.
        spec = replace(
            spec, worker_class=WorkerClass.LEAD, nid=-1, size=GUESTS_MAX, warm=0, idle_timeout_s=0.0
        )
        super().__init__(spec, listener, ids, group=group, hooks=hooks)
        self._needed = False

    def start(self) -> None:
        """Start the pool host, unless no guest was needed yet or it is running."""
        if self._needed and not self._host.is_there:
            super().start()

    def admit(
        self, memory_group: str, worker_class: WorkerClass, *, nid: int = -1, cpu: int = -1
    ) -> Worker | None:
        """Start a guest, which can be given work after it has reported that it is ready.

        Args:
            memory_group: directory of the cgroup that it works in.
            nid, cpu: the node and the CPU of a helper; -1 for a lead.
        Returns:
            The worker; None if there are GUESTS_MAX guests, or no process can be started now.
        """
        slot = next((slot for slot in self.slots if not slot.wanted), None)
        if slot is None or self._closing:
            return None
        self._needed = True
        self.start()
        if not self._host.is_there:
            return None  # the caller tries again
        cpus = frozenset([cpu] if cpu >= 0 else self.spec.cpus)
        spec = self.spec
        slot.guest = Placement(worker_class, cpus, nid, spec.uid, spec.gid, memory_group, spec.own_code)
        slot.cpu, slot.wanted = cpu, True
        self._spawn(slot)
        return slot.worker
