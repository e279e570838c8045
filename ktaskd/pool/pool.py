"""One pool: a pool host and the workers it forked, kept at their number."""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.worker import Placement, WorkerClass, WorkerState
from ktaskd.pool.host import placement_to_json
from ktaskd.pool.link import Death, Listener, Worker
from ktaskd.pool.machine import respawn_delay
from ktaskd.pool.starting import Children, StartedHost, Starter
from ktaskd.worker.frames import SLOT_BYTES

log = logging.getLogger(__name__)


SPARE_IDLE_S = 1.0
"""How long a spare worker stays without work: others that stand still may need it again soon."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What a pool is.

    Args:
        cpus: one helper is pinned to each of these; for leads the CPUs that
            they may use.
        size: most workers at one time.
        warm: workers that are kept ready; the others are started when wanted.
        uid, gid: user that the workers become; -1 = the daemon's.
        idle_timeout_s: workers beyond the warm ones end after so long without
            work; 0 = they stay.
        own_code: they may be given code of the daemon's own user.
        usual: workers beyond so many are spare, in the place of others that stand still, and
            end after SPARE_IDLE_S without work; 0 = none is spare.
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


@dataclass(slots=True)
class Place:
    """One place for a worker; it outlives the processes that fill it.

    Args:
        guest: what the one worker that it is lent to applies; None = it is filled again.
    """

    slot_i: int
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
        retire: Callable[[Worker], None] = lambda _: None,
        raise_: Callable[[int], object] = lambda _: None,
        starter: Starter | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            ids: gives numbers that are unique in the daemon.
            group: the cgroup that helpers move into; stays the caller's.
            retire: told of a worker that ends because it has long been idle,
                before it does: it must not be given anything any more.
            raise_: lets a worker that is killed run at normal priority, so that
                it dies soon.
            starter: gets the pool host; None = as a child of this process.
        """
        self.spec = spec
        self._group = group
        self._retire = retire
        self._raise = raise_
        self._idle_timer: asyncio.TimerHandle | None = None
        self._starter: Starter = starter or Children(one_user=spec.own_code)
        self.host_respawns = 0
        self.trouble = ""
        """Why there is no pool host now, in words; "" where there is one, or soon will be."""
        self._listener = listener
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._board_fd = os.memfd_create(f"ktaskd-{spec.name}", os.MFD_CLOEXEC)
        os.ftruncate(self._board_fd, spec.size * SLOT_BYTES)
        self._board = mmap.mmap(self._board_fd, spec.size * SLOT_BYTES)
        pinned = spec.worker_class is WorkerClass.HELPER
        self.places = [Place(i, spec.cpus[i % len(spec.cpus)] if pinned else -1) for i in range(spec.size)]
        self._by_id: dict[int, Place] = {}
        self._host: StartedHost | None = None
        self._restart_timer: asyncio.TimerHandle | None = None
        self._host_started_s = 0.0
        self._host_early_deaths = 0
        self._untold: deque[tuple[bytes, list[int]]] = deque()
        self._closing = False
        self._all_gone = asyncio.Event()

    @property
    def workers(self) -> Iterable[Worker]:
        """The workers that exist, in any state."""
        return [place.worker for place in self.places if place.worker is not None]

    # -- the pool host --------------------------------------------------------

    @property
    def host_pid(self) -> int:
        """Of the pool host; 0 where there is none, or it is not known yet."""
        return self._host.pid if self._host is not None else 0

    def start(self) -> None:
        """Start the pool host and the warm workers; where it cannot be had now, later."""
        self._stop_restart()
        for place in self.places[: self.spec.warm]:
            place.wanted = True
        self._host_started_s = self._loop.time()
        try:
            host = self._starter.start(self.spec.name)
        except OSError as error:
            self._restart_later(error.strerror or str(error))
            return
        self._host = host
        self.trouble = self._trouble(self._starter.waiting)
        self._loop.add_reader(host.control.fileno(), self._on_control)
        if host.pidfd >= 0:
            self._loop.add_reader(host.pidfd, self._on_host_dead)
        for message, fds in host.greeting:
            self._tell(message, fds)
        self._tell({"op": "board"}, [self._board_fd])
        if self._group is not None:
            doors = [self._group.idle_fd, self._group.normal_fd]
            self._tell({"op": "group", "path": str(self._group.path)}, doors)
        for place in self.places:
            if place.wanted and place.worker is None and place.timer is None:
                self._spawn(place)

    def _trouble(self, why: str) -> str:
        return f"pool host of {self.spec.name}: {why}" if why else ""

    def _on_control(self) -> None:
        host = self._host
        while host is not None and host is self._host:
            try:
                frame, fds, _, _ = socket.recv_fds(host.control, FRAME_BYTES_MAX, 2)
            except BlockingIOError:
                return
            except OSError:
                frame, fds = b"", []
            for fd in fds:
                os.set_inheritable(fd, False)
            if not frame:
                self._loop.remove_reader(host.control.fileno())
                if host.pidfd < 0:
                    self._on_host_dead()  # it never came to be
                return  # its pidfd tells the rest
            self._on_message(host, json.loads(frame), fds)

    def _on_message(self, host: StartedHost, message: dict[str, Any], fds: list[int]) -> None:
        if message["op"] == "ready":
            self._host_early_deaths = 0
            self.trouble = ""
            known = host.pidfd >= 0
            host.on_ready(message, fds)
            if not known and host.pidfd >= 0:
                self._loop.add_reader(host.pidfd, self._on_host_dead)
        elif message["op"] == "spawned":
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

    def _on_host_dead(self) -> None:
        """The host is dead, and with it (PR_SET_PDEATHSIG) soon all its workers."""
        host = self._host
        assert host is not None
        if host.pidfd >= 0:
            self._on_control()  # exit statuses that it could still tell
        status = host.reap()
        self._close_host()
        for worker in list(self.workers):
            worker.kill()
            worker.set_exit_status(None)
        if self._closing:
            self._check_all_gone()
            return
        self.host_respawns += 1
        self._restart_later(f"died, {'nobody can tell how' if status is None else f'status {status}'}")

    def _restart_later(self, why: str) -> None:
        """Try again, after a pause that is longer each time that it does not help."""
        lived_s = self._loop.time() - self._host_started_s
        delay_s, self._host_early_deaths = respawn_delay(
            lived_s=lived_s, was_busy=False, early_deaths=self._host_early_deaths
        )
        trouble, before = self._trouble(why), self.trouble
        self.trouble = trouble
        level = logging.WARNING if trouble != before else logging.DEBUG
        log.log(level, 'no_pool_host pool=%s why="%s" again_in_s=%.1f', self.spec.name, why, delay_s)
        self._stop_restart()
        self._restart_timer = self._loop.call_later(delay_s, self._restart)

    def _restart(self) -> None:
        if not self._closing:
            self.start()

    def _stop_restart(self) -> None:
        if self._restart_timer is not None:
            self._restart_timer.cancel()
            self._restart_timer = None

    def _close_host(self) -> None:
        if self._host is None:
            return
        host, self._host = self._host, None
        self._loop.remove_reader(host.control.fileno())
        self._loop.remove_writer(host.control.fileno())
        host.control.close()
        self._untold.clear()
        if host.pidfd >= 0:
            self._loop.remove_reader(host.pidfd)
            os.close(host.pidfd)

    def _tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        if self._host is not None:
            self._untold.append((json.dumps(message).encode(), fds or []))
            self._tell_on()

    def _tell_on(self) -> None:
        """Send what was not sent yet; a host of many CPUs is told more than a socket holds."""
        if self._host is None:
            return
        control = self._host.control
        while self._untold:
            frame, fds = self._untold[0]
            try:
                socket.send_fds(control, [frame], fds)
            except BlockingIOError:
                self._loop.add_writer(control.fileno(), self._tell_on)
                return
            except OSError:
                pass  # it is dying; _on_host_dead follows
            self._untold.popleft()
        self._loop.remove_writer(control.fileno())

    # -- workers ----------------------------------------------------------------

    def ensure(self, count: int) -> None:
        """Have at least `count` workers started, as far as there are places."""
        wanted = sum(place.wanted for place in self.places)
        # Those whose last worker is still ending come last, and start when it has ended.
        for place in sorted(self.places, key=lambda place: place.worker is not None):
            if wanted >= count:
                return
            if not place.wanted:
                place.wanted = True
                wanted += 1
                if place.worker is None:
                    self._spawn(place)

    def _on_idle(self) -> None:
        """A worker has nothing in hand: look again when one has had nothing for long enough."""
        spare = self.spec.usual and sum(place.wanted for place in self.places) > self.spec.usual
        if (self._idle_timer is None or spare) and not self._closing:
            self._set_idle_timer()

    def _set_idle_timer(self) -> None:
        """Wake up once, when the first of those that are too many is due; never if none is."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if too_many := self._too_many():
            self._idle_timer = self._loop.call_at(min(due_s for _, due_s in too_many), self._end_idle)

    def _idle_workers(self) -> list[Worker]:
        """Those without work, the one that has had none for longest first."""
        idle = [worker for worker in self.workers if worker.state is WorkerState.IDLE]
        return sorted(idle, key=lambda worker: worker.idle_since_s)

    def _too_many(self) -> list[tuple[Worker, float]]:
        """Idle workers that are not to stay, and when each of them is to end."""
        spec, wanted = self.spec, sum(place.wanted for place in self.places)
        spare = wanted - spec.usual if spec.usual else 0
        beyond = wanted - spec.warm if spec.idle_timeout_s else spare
        found = []
        for i, worker in enumerate(self._idle_workers()[: max(beyond, 0)]):
            patience_s = spec.idle_timeout_s or SPARE_IDLE_S
            patience_s = min(patience_s, SPARE_IDLE_S) if i < spare else patience_s
            found.append((worker, worker.idle_since_s + patience_s))
        return found

    def _end_idle(self) -> None:
        """End workers that are too many and were idle for long enough."""
        now_s = self._loop.time()
        for worker, due_s in self._too_many():
            if due_s <= now_s:
                self._by_id[worker.id].wanted = False
                self._retire(worker)
                worker.retire()
        self._set_idle_timer()

    def _find(self, worker_id: int) -> Worker | None:
        place = self._by_id.get(worker_id)
        return place.worker if place is not None else None

    def _spawn(self, place: Place) -> None:
        """Start a worker in a place, unless there is one: who is told of a death may ask for it, too."""
        place.timer = None
        if self._closing or self._host is None or place.worker is not None:
            return  # start() spawns what is wanted
        page = memoryview(self._board)[place.slot_i * SLOT_BYTES : (place.slot_i + 1) * SLOT_BYTES]
        page[:] = bytes(SLOT_BYTES)
        placement = place.guest or self._placement(place)
        worker = Worker(
            self._ids(),
            placement.worker_class,
            placement.nid,
            place.cpu,
            page.cast("Q"),
            self._listener,
            self._on_worker_gone,
            self._on_idle,
            self._raise,
        )
        worker.memory_group = placement.memory_group
        place.worker = worker
        self._by_id[worker.id] = place
        body = placement_to_json(placement)
        self._tell({"op": "spawn", "id": worker.id, "slot": place.slot_i, "placement": body})

    def _placement(self, place: Place) -> Placement:
        spec = self.spec
        cpus = frozenset([place.cpu]) if place.cpu >= 0 else frozenset(spec.cpus)
        return Placement(spec.worker_class, cpus, spec.nid, spec.uid, spec.gid, own_code=spec.own_code)

    def _on_worker_gone(self, worker: Worker, death: Death) -> None:
        place = self._by_id.pop(worker.id)
        was_busy = worker.state is WorkerState.BUSY
        lived_s = self._loop.time() - worker.started_s if worker.started_s else 0.0
        if worker.state is not WorkerState.STOPPING:
            log.warning(
                'worker_died worker=%d pid=%d nid=%d pool=%s how="%s"',
                worker.id, worker.pid, worker.nid, self.spec.name, death,
            )  # fmt: skip
        worker.state = WorkerState.BACKOFF
        place.worker = None
        was_guest = place.guest is not None
        if was_guest:  # before it is told: somebody may wait for this place
            place.guest, place.wanted = None, False
        self._listener.on_dead(worker, death)
        if self._closing:
            self._check_all_gone()
            return
        if was_guest:
            return
        if worker.retired:
            if place.wanted:
                self._spawn(place)
            return
        delay_s = 0.0
        if death.status is not None or not worker.started_s:
            # Else it died with its host: that tells nothing of its start.
            delay_s, place.early_deaths = respawn_delay(
                lived_s=lived_s, was_busy=was_busy, early_deaths=place.early_deaths
            )
        place.respawns += 1
        place.timer = self._loop.call_later(delay_s, self._spawn, place)

    # -- the end ----------------------------------------------------------------

    async def close(self, grace_s: float) -> None:
        """End all workers and the host; what is not gone after `grace_s` is killed."""
        self._closing = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._stop_restart()
        for place in self.places:
            if place.timer is not None:
                place.timer.cancel()
        for worker in self.workers:
            worker.stop()
        if self._host is not None:
            # The host sees end of file, then kills and reaps what is left.
            self._host.control.shutdown(socket.SHUT_WR)
        self._check_all_gone()
        try:
            await asyncio.wait_for(self._all_gone.wait(), grace_s)
        except TimeoutError:
            for worker in self.workers:
                worker.kill()
            self._kill_host()
            await asyncio.wait_for(self._all_gone.wait(), grace_s)
        finally:
            self._close_host()
            self._release_board()

    def _kill_host(self) -> None:
        if self._host is not None:
            self._host.kill()
            if self._host.pidfd < 0:
                self._on_host_dead()  # whoever should have started it sees that nobody waits for it

    def _check_all_gone(self) -> None:
        if self._host is None and not self.workers:
            self._all_gone.set()

    def _release_board(self) -> None:
        for place in self.places:
            place.worker = None
        os.close(self._board_fd)
        self._board_fd = -1
