"""All pools of a daemon: the helpers of each node, the leads, and workers in callers' memory cgroups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.guests import GuestPool
from ktaskd.pool.link import Listener, Worker
from ktaskd.pool.pool import Pool, PoolHooks, PoolSpec
from ktaskd.pool.starting import Starter


class Pools:
    """The pools, in the order in which the status shows them.

    Args:
        specs: of the helpers' pools and of one pool of leads.
        guests: of workers for one job each, which move into a caller's memory cgroup.
        group: the cgroup that helpers move into; stays the caller's.
        hooks: called back about workers.
        helpers_unit: starts the helpers' pool hosts; None = they are children of this process.
    """

    def __init__(
        self,
        specs: Sequence[PoolSpec],
        guests: PoolSpec,
        listener: Listener,
        *,
        group: IdleGroup | None,
        hooks: PoolHooks,
        helpers_unit: Starter | None,
    ) -> None:
        """Nothing is started yet."""
        numbers = itertools.count(1)

        def number() -> int:
            return next(numbers)

        def make(spec: PoolSpec) -> Pool:
            helpers = spec.worker_class is WorkerClass.HELPER
            return Pool(
                spec,
                listener,
                number,
                group=group if helpers else None,
                hooks=hooks,
                starter=helpers_unit if helpers else None,
            )

        self._usual = [make(spec) for spec in specs]
        self._leads = next(pool for pool in self._usual if pool.spec.worker_class is WorkerClass.LEAD)
        self._guests = GuestPool(guests, listener, number, group=group, hooks=hooks)
        self.all: list[Pool] = [*self._usual, self._guests]

    def __iter__(self) -> Iterator[Pool]:
        """All pools."""
        return iter(self.all)

    def start(self) -> None:
        """Start all pool hosts except that of guests, and one worker of each pool.

        One worker shows whether workers can start here; it ends soon if none is kept warm.
        """
        for pool in self.all:
            pool.start()
        for pool in self._usual:
            pool.ensure(1)

    def want_leads(self, count: int) -> None:
        """Ask for this many leads."""
        self._leads.ensure(count)

    def want_helpers(self, nid: int, count: int) -> None:
        """Ask for this many helpers of a node."""
        for pool in self._usual:
            if pool.spec.nid == nid and pool is not self._leads:
                pool.ensure(count)

    def admit_guest(
        self, memory_group: str, worker_class: WorkerClass, *, nid: int = -1, cpu: int = -1
    ) -> Worker | None:
        """Start a guest, as `GuestPool.admit` does."""
        return self._guests.admit(memory_group, worker_class, nid=nid, cpu=cpu)

    def pids(self) -> list[int]:
        """Return the process ids of all workers and pool hosts."""
        workers = [worker.pid for pool in self.all for worker in pool.workers if worker.pid]
        return [*workers, *(pool.host_pid for pool in self.all if pool.host_pid)]

    def shared_pids(self) -> set[int]:
        """Return the process ids of workers that serve all users, and of their pool hosts."""
        pids = {worker.pid for pool in self._usual for worker in pool.workers}
        return (pids | {pool.host_pid for pool in self._usual}) - {0}
