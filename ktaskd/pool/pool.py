"""One pool: a pool host and its workers, whose number is kept."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.model.worker import Placement, WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.host import placement_to_json
from ktaskd.pool.hostlink import HostLink
from ktaskd.pool.link import Listener, Worker, WorkerHooks
from ktaskd.pool.respawn import respawn_delay
from ktaskd.pool.seat import Seat
from ktaskd.pool.starting import Children, Starter
from ktaskd.worker.frames import SLOT_BYTES

log = logging.getLogger(__name__)


SPARE_IDLE_S = 1.0
"""Seconds for which a spare worker stays idle, since it may soon be needed for a stalled one again."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """The settings of a pool.

    Args:
        cpus: one helper is pinned to each of these; leads may use all of them.
        size: most workers at the same time.
        warm: workers that are kept ready; the others are started on demand.
        uid, gid: user that the workers become; -1 = the daemon's.
        idle_timeout_s: workers beyond the warm ones end after this long without work;
            0 = they stay.
        own_code: whether they may be given code of the daemon's own user.
        usual: workers beyond this number are spare: they replace stalled workers, and end
            after SPARE_IDLE_S without work; 0 = none is spare.
    """

    name: str
    worker_class: WorkerClass
    nid: int
    cpus: tuple[int, ...]
    size: int
    warm: int
    uid: int = -1
    gid: int = -1
    idle_timeout_s: float = 0.0
    own_code: bool = False
    usual: int = 0


def _ignore(_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class PoolHooks:
    """Calls from a pool to its owner.

    Args:
        retire: called before a worker ends because it has been idle for long; from then on it
            must not be given anything.
        raise_: lets the process of a killed worker run at normal priority, so that it dies soon.
    """

    retire: Callable[[Worker], None] = _ignore
    raise_: Callable[[int], object] = _ignore


@dataclass(slots=True)
class Slot:
    """Holds one worker at a time, and outlives it.

    Args:
        index: number of the slot in the pool, and of its page on the board.
        guest: placement of the only worker that it is lent to; None = it is filled again.
        wanted: whether it should have a worker.
    """

    index: int
    cpu: int
    guest: Placement | None = None
    worker: Worker | None = None
    wanted: bool = False
    respawns: int = 0
    early_deaths: int = 0
    timer: asyncio.TimerHandle | None = None


class Pool:
    """Keeps a pool host and its workers alive until `close`."""

    def __init__(
        self,
        spec: PoolSpec,
        listener: Listener,
        ids: Callable[[], int],
        *,
        group: IdleGroup | None = None,
        hooks: PoolHooks | None = None,
        starter: Starter | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            ids: returns numbers that are unique in the daemon.
            group: the cgroup that helpers move into; stays the caller's.
            hooks: called back about its workers.
            starter: starts the pool host; None = as a child of this process.
        """
        self.spec = spec
        self._group = group
        self._hooks = hooks or PoolHooks()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._host = HostLink(spec.name, starter or Children(one_user=spec.own_code), self)
        self._listener = listener
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._board_fd = os.memfd_create(f"ktaskd-{spec.name}", os.MFD_CLOEXEC)
        os.ftruncate(self._board_fd, spec.size * SLOT_BYTES)
        self._board = mmap.mmap(self._board_fd, spec.size * SLOT_BYTES)
        pinned = spec.worker_class is WorkerClass.HELPER
        self.slots = [Slot(i, spec.cpus[i % len(spec.cpus)] if pinned else -1) for i in range(spec.size)]
        self._by_id: dict[int, Slot] = {}
        self._closing = False
        self._all_gone = asyncio.Event()

    @property
    def workers(self) -> Iterable[Worker]:
        """All workers that exist, in any state."""
        return [slot.worker for slot in self.slots if slot.worker is not None]

    # -- the pool host --------------------------------------------------------

    @property
    def host_pid(self) -> int:
        """Pid of the pool host; 0 if there is none, or its pid is not known yet."""
        return self._host.pid

    @property
    def host_respawns(self) -> int:
        """How many pool hosts have died and were to be replaced."""
        return self._host.respawns

    @property
    def trouble(self) -> str:
        """Why there is no pool host now, in words; "" if there is one, or soon will be."""
        return self._host.trouble

    def start(self) -> None:
        """Start the pool host and the warm workers; after a pause if that is not possible now."""
        for slot in self.slots[: self.spec.warm]:
            slot.wanted = True
        if not self._host.start():
            return
        self._host.send({"op": "board"}, [self._board_fd])
        if self._group is not None:
            cgroup_fds = [self._group.idle_fd, self._group.normal_fd]
            self._host.send({"op": "group", "path": str(self._group.path)}, cgroup_fds)
        for slot in self.slots:
            if slot.wanted and slot.worker is None and slot.timer is None:
                self._spawn(slot)

    def restart_host(self) -> None:
        """Start the host again, unless the pool is closing."""
        if not self._closing:
            self.start()

    def on_host_dead(self) -> bool:
        """Kill its workers, which the kernel has not killed yet; whether another host is wanted."""
        for worker in list(self.workers):
            worker.kill()
            worker.set_exit_status(None)
        if self._closing:
            self._check_all_gone()
        return not self._closing

    def on_host_message(self, message: dict[str, Any], fds: list[int]) -> None:
        """Handle "spawned", "exited" and "failed"."""
        if message["op"] == "spawned":
            self._on_spawned(message, fds)
        elif message["op"] == "exited":
            worker = self._find(message["id"])
            if worker is not None:
                worker.set_exit_status(message["status"])
        elif message["op"] == "failed":
            log.error('worker_not_started pool=%s message="%s"', self.spec.name, message["message"])
            worker = self._find(message["id"])
            if worker is not None:
                self._on_worker_gone(worker, Death(None, 0, 0))

    def _on_spawned(self, message: dict[str, Any], fds: list[int]) -> None:
        worker = self._find(message["id"])
        if worker is None or len(fds) != 2:
            for fd in fds:
                os.close(fd)
            return
        worker.attach(message["pid"], socket.socket(fileno=fds[0]), fds[1])

    # -- workers ----------------------------------------------------------------

    def ensure(self, count: int) -> None:
        """Start workers until there are `count`, as far as there are slots."""
        wanted = sum(slot.wanted for slot in self.slots)
        # Slots whose last worker is still ending come last; they start a worker when it has ended.
        for slot in sorted(self.slots, key=lambda slot: slot.worker is not None):
            if wanted >= count:
                return
            if not slot.wanted:
                slot.wanted = True
                wanted += 1
                if slot.worker is None:
                    self._spawn(slot)

    def _on_idle(self) -> None:
        """A worker became idle: end it, or another one, when it has been idle for long enough."""
        spare = self.spec.usual and sum(slot.wanted for slot in self.slots) > self.spec.usual
        if (self._idle_timer is None or spare) and not self._closing:
            self._set_idle_timer()

    def _set_idle_timer(self) -> None:
        """Set the timer to the first surplus worker that is due; stop it if there is none."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if surplus := self._surplus():
            self._idle_timer = self._loop.call_at(min(due_s for _, due_s in surplus), self._end_idle)

    def _idle_workers(self) -> list[Worker]:
        """Workers without work; the one that has been idle longest comes first."""
        idle = [worker for worker in self.workers if worker.state is WorkerState.IDLE]
        return sorted(idle, key=lambda worker: worker.idle_since_s)

    def _surplus(self) -> list[tuple[Worker, float]]:
        """Surplus idle workers, and when each of them has to end."""
        spec, wanted = self.spec, sum(slot.wanted for slot in self.slots)
        spare = wanted - spec.usual if spec.usual else 0
        beyond = wanted - spec.warm if spec.idle_timeout_s else spare
        found = []
        for i, worker in enumerate(self._idle_workers()[: max(beyond, 0)]):
            patience_s = spec.idle_timeout_s or SPARE_IDLE_S
            patience_s = min(patience_s, SPARE_IDLE_S) if i < spare else patience_s
            found.append((worker, worker.idle_since_s + patience_s))
        return found

    def _end_idle(self) -> None:
        """End surplus workers that have been idle for long enough."""
        now_s = self._loop.time()
        for worker, due_s in self._surplus():
            if due_s <= now_s:
                self._by_id[worker.id].wanted = False
                self._hooks.retire(worker)
                worker.retire()
        self._set_idle_timer()

    def _find(self, worker_id: int) -> Worker | None:
        slot = self._by_id.get(worker_id)
        return slot.worker if slot is not None else None

    def _spawn(self, slot: Slot) -> None:
        """Start a worker in a slot, unless it has one: a listener may have asked for it already."""
        slot.timer = None
        if self._closing or not self._host.is_there or slot.worker is not None:
            return  # start() fills the wanted slots later
        page = memoryview(self._board)[slot.index * SLOT_BYTES : (slot.index + 1) * SLOT_BYTES]
        page[:] = bytes(SLOT_BYTES)
        placement = slot.guest or self._placement(slot)
        seat = Seat(placement.worker_class, placement.nid, slot.cpu, page.cast("Q"))
        hooks = WorkerHooks(self._on_worker_gone, self._on_idle, self._hooks.raise_)
        worker = Worker(self._ids(), seat, self._listener, hooks)
        worker.memory_group = placement.memory_group
        slot.worker = worker
        self._by_id[worker.id] = slot
        body = placement_to_json(placement)
        self._host.send({"op": "spawn", "id": worker.id, "slot": slot.index, "placement": body})

    def _placement(self, slot: Slot) -> Placement:
        spec = self.spec
        cpus = frozenset([slot.cpu]) if slot.cpu >= 0 else frozenset(spec.cpus)
        return Placement(spec.worker_class, cpus, spec.nid, spec.uid, spec.gid, own_code=spec.own_code)

    def _on_worker_gone(self, worker: Worker, death: Death) -> None:
        slot = self._by_id.pop(worker.id)
        was_busy = worker.state is WorkerState.BUSY
        lived_s = self._loop.time() - worker.started_s if worker.started_s else 0.0
        if worker.state is not WorkerState.STOPPING:
            log.warning(
                'worker_died worker=%d pid=%d nid=%d pool=%s how="%s"',
                worker.id, worker.pid, worker.nid, self.spec.name, death,
            )  # fmt: skip
        worker.state = WorkerState.BACKOFF
        slot.worker = None
        was_guest = slot.guest is not None
        if was_guest:  # before the listener is called, since a job may wait for this slot
            slot.guest, slot.wanted = None, False
        self._listener.on_dead(worker, death)
        if self._closing:
            self._check_all_gone()
            return
        if was_guest:
            return
        if worker.retired:
            if slot.wanted:
                self._spawn(slot)
            return
        delay_s = 0.0
        if death.status is not None or not worker.started_s:
            # Otherwise it died with its host, which says nothing about its start.
            delay_s, slot.early_deaths = respawn_delay(
                lived_s=lived_s, was_busy=was_busy, early_deaths=slot.early_deaths
            )
        slot.respawns += 1
        slot.timer = self._loop.call_later(delay_s, self._spawn, slot)

    # -- the end ----------------------------------------------------------------

    async def close(self, grace_s: float) -> None:
        """End all workers and the host; kill those that are left after `grace_s`."""
        self._closing = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._host.stop_restart()
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
        for worker in self.workers:
            worker.stop()
        self._host.hang_up()
        self._check_all_gone()
        try:
            await asyncio.wait_for(self._all_gone.wait(), grace_s)
        except TimeoutError:
            for worker in self.workers:
                worker.kill()
            self._host.kill()
            await asyncio.wait_for(self._all_gone.wait(), grace_s)
        finally:
            self._host.close()
            self._release_board()

    def _check_all_gone(self) -> None:
        if not self._host.is_there and not self.workers:
            self._all_gone.set()

    def _release_board(self) -> None:
        for slot in self.slots:
            slot.worker = None
        os.close(self._board_fd)
        self._board_fd = -1
