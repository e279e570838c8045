"""The daemon's life: everything started in order, run, and ended in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import Counter

from ktaskd import __version__
from ktaskd.api.guard import Guard
from ktaskd.api.server import Server
from ktaskd.api.state import Daemon, Reloaded
from ktaskd.daemon import machine
from ktaskd.daemon.config import ConfigError
from ktaskd.daemon.events import WorkerEvents
from ktaskd.daemon.found import Found
from ktaskd.daemon.garbage import Garbage
from ktaskd.daemon.givingback import GivingBack
from ktaskd.daemon.idle import IdleEnd, held_s
from ktaskd.daemon.lacking import Lacking
from ktaskd.daemon.logs import write_late
from ktaskd.daemon.notify import Notifier
from ktaskd.daemon.plugins import offered
from ktaskd.daemon.pools import Pools
from ktaskd.daemon.raising import RaisingLessons
from ktaskd.daemon.reloading import reloaded
from ktaskd.daemon.start import Start
from ktaskd.daemon.stopping import end_jobs
from ktaskd.daemon.watchdog import Watchdog, find_wrong
from ktaskd.daemon.watchdog import describe as describe_state
from ktaskd.door.admission.turns import Turns
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.handoff.door import HandoffDoor
from ktaskd.door.handoff.handles import BackgroundCloser, HandleTable
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.door.relay.door import RelayDoor
from ktaskd.door.sockets.listener import ListenError
from ktaskd.governor.governor import Governor, boot_clock
from ktaskd.governor.watch import Watch
from ktaskd.host.caller import describe, read_caller
from ktaskd.host.files.disk import read_disk
from ktaskd.host.libc import trim_heap
from ktaskd.host.processes.incarnation import Incarnation
from ktaskd.host.processes.process import resident_bytes
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.host.topology import read_topology
from ktaskd.intake.disk_limits import DiskOf
from ktaskd.intake.memory_limit import CallerMemory
from ktaskd.intake.opening import Opener, Rights
from ktaskd.intake.submit import Conditions, Intake
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.kernel import HostKernel
from ktaskd.jobs.machine import IllegalTransition
from ktaskd.jobs.patience import Clocks, Patience
from ktaskd.jobs.ports import PoolRequests
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.room import MemoryRoom
from ktaskd.model.allowance import Allowance
from ktaskd.model.errors import ReloadFailed
from ktaskd.model.identity import Identity
from ktaskd.pool.pool import PoolHooks

log = logging.getLogger(__name__)

CLOSE_S = 3.0
"""Time for the pools, the doors and the calls that still run, at the end."""


class House:
    """All rooms of one daemon, put together."""

    # Rooms that were made before these call them later.
    _pools: Pools
    _governor: Governor
    _keepers: Keepers

    def __init__(self, start: Start) -> None:
        """Build everything; nothing runs yet. Needs the running loop."""
        self._start = start
        self._config = start.config
        self._stop = asyncio.Event()
        self._failed = False
        self._idle_end = IdleEnd(self._held_s, self._stop.set)
        self._found = Found(start.runtime, self._on_lost)
        self._garbage = Garbage()
        self._notifier = Notifier()
        self._giving_back = GivingBack(resident_bytes, trim_heap, self._held_bytes)
        self._watchdog = Watchdog(self._notifier, self._find_wrong, self._describe_state)
        self._counters: Counter[str] = Counter()
        self._root = HostRoot()
        self._topology = read_topology(self._root, frozenset(os.sched_getaffinity(0)))
        self._files = machine.raise_file_limit()
        self._peers = PeerTable()
        self._closer = BackgroundCloser()
        self._build_jobs()
        self._build_doors()
        self._state = self._make_state()
        self._server = self._make_server()
        start.runtime.publish()

    def _make_server(self) -> Server:
        sockets, runtime = self._config.sockets, self._start.runtime
        guard = Guard(
            self._peers.identity,
            stall_s=sockets.watch_stall_s,
            calls_per_uid=sockets.calls_per_uid,
            turns=self._turns,
            taken=self._peers.taken,
            room=self._peers.reading,
            admins=machine.admin_uids(),
        )
        try:
            inner_path = os.fspath(runtime.unpublished_path)
            return Server(self._state, inner_path, guard, streams_max=sockets.streams)
        except RuntimeError as error:
            raise ListenError(runtime.why_unbound()) from error

    def _build_jobs(self) -> None:
        config, topology = self._config, self._topology
        private = not self._start.listeners.reached_by_others()
        user = self._user = machine.worker_user(config.workers, os.geteuid(), private=private)
        allowance = machine.make_allowance(topology, config.workers)
        registry = Registry(config.jobs, machine.admin_uids())
        registry.on_freed = self._giving_back.note
        dispatch = Dispatch(
            topology,
            allowance,
            PoolRequests(
                lambda count: self._pools.want_leads(count),
                lambda nid, count: self._pools.want_helpers(nid, count),
                lambda group, kind, **where: self._pools.admit_guest(group, kind, **where),
            ),
            HostKernel(),
            time.time,
        )
        self._group, self._no_group = machine.make_idle_group(config.workers)
        cgroup_fds = (self._group.idle_fd, self._group.normal_fd) if self._group else (-1, -1)
        self._raiser = Raiser(*cgroup_fds)
        self._lessons = RaisingLessons(self._raiser, self._start.own_cgroup_fd, self._stop.is_set)
        self.engine = self._make_engine(registry, dispatch)
        self.engine.on_idle = self._on_idle
        self._watch = Watch(self._start.host_root, lambda: self._governor.look())
        self._governor = Governor(
            config.governor,
            allowance,
            self._watch,
            self._on_allowance,
            own=lambda: [*self._pools.pids(), *self._keepers.pids().values()],
        )
        self._ears = WorkerEvents(self.engine, self._lessons.on_ready)
        self._pools = self._make_pools(allowance, user)
        self._callers = Callers(
            lambda pid: read_caller(self._root, pid, topology),
            lambda who: Incarnation(self._root, who.pid, who.pidfd, who.start_ticks),
            self.engine.set_caller,
        )
        functions, self._function_problems = offered(
            self._start.selftest, config.functions.dir, (user.uid, user.gid), own_code=user.own_code
        )
        gone, close = self.engine.forget_source, self._closer
        self._handles = HandleTable(per_uid=config.sockets.handles_per_uid, on_gone=gone, close=close)
        self._keepers = Keepers(admins=machine.admin_uids(), on_gone=gone, close=close)
        rights = Rights(machine.admin_uids(), user.refusal, os.geteuid() if user.own_code else None)
        conditions = Conditions(
            CallerMemory(self._root, self._pools.shared_pids),
            self._callers,
            DiskOf(config.disks, lambda device: read_disk(self._root, device)),
            MemoryRoom(self._root),
        )
        opener = Opener(self._handles, self._keepers, rights)
        self._intake = Intake(self.engine, functions, opener, topology, rights, conditions)

    def _make_engine(self, registry: Registry, dispatch: Dispatch) -> Engine:
        workers = self._config.workers
        return Engine(
            registry,
            dispatch,
            Patience(workers.cancel_grace_s, workers.fence_s, workers.hang_cpu_s, workers.starvation_s),
            Clocks(time.time),
            self._raiser,
        )

    def _make_pools(self, allowance: Allowance, user: machine.WorkerUser) -> Pools:
        workers = self._config.workers
        return Pools(
            machine.pool_specs(self._topology, allowance, user, workers),
            machine.guest_spec(self._topology, user),
            self._ears,
            group=self._group,
            hooks=PoolHooks(self.engine.dispatch.remove, self._raiser.raise_),
            helpers_unit=machine.helpers_unit(workers, self._start.own_cgroup_fd, self._lessons.on_cgroup_fd),
        )

    def _on_allowance(self, allowance: Allowance) -> None:
        self.engine.set_allowance(allowance)
        self._notifier.send(f"STATUS={self._describe_state()}")

    def _find_wrong(self) -> str:
        return find_wrong(self.engine.dispatch, self._start.runtime.inner_path)

    def _on_lost(self) -> None:
        self._notifier.send(
            f"STATUS={self._found.lost}: no client can connect; ends when its jobs have ended"
        )
        self._on_change()

    def _describe_state(self) -> str:
        words = describe_state(self.engine.dispatch, self.engine.registry.unended)
        return f"stopping: {words}" if self._stop.is_set() else words

    def _build_doors(self) -> None:
        sockets, reception = self._config.sockets, machine.reception(self._root)
        self._turns = Turns()
        self.engine.on_cost = lambda who, cost_s: self._turns.find(who.uid, who.payer).charge(cost_s)
        self._relay = RelayDoor(
            self._start.listeners.relay,
            self._start.runtime.dial_path,
            self._peers,
            per_uid=sockets.connections_per_uid,
            total=sockets.connections,
            describe=self._describe,
            on_change=self._on_change,
            turns=self._turns,
            reception=reception,
            stall_s=sockets.watch_stall_s,
        )
        self._handoff = HandoffDoor(
            self._start.listeners.handoff,
            self._handles,
            self._keepers,
            per_uid=sockets.handoffs_per_uid,
            total=sockets.handoffs,
            on_change=self._on_change,
            turns=self._turns,
            reception=reception,
        )
        for ledger in (self._turns.answers, self._relay.requests):
            ledger.on_change = self._giving_back.note

    def _held_bytes(self) -> int:
        return self._turns.answers.total + self._relay.requests.total

    def _make_state(self) -> Daemon:
        return Daemon(
            version=__version__,
            start_s=time.time(),
            runtime_dir=os.fsencode(self._start.runtime.path).decode(errors="backslashreplace"),
            selftest=self._start.selftest,
            admin_uids=machine.admin_uids(),
            topology=self._topology,
            pools=self._pools.all,
            engine=self.engine,
            intake=self._intake,
            governor=self._governor,
            reload=self.reload,
            set_draining=self._set_draining,
            limits=lambda: machine.limits_in_force(self._config, self._files),
            counts=self._counts,
            raiser=self._raiser,
            missing=Lacking(
                user=self._user,
                notifier=self._notifier,
                no_group=self._no_group,
                functions=self._function_problems,
                watch=self._watch,
                governor=self._governor,
                pools=self._pools.all,
                raiser=self._raiser,
                others=[lambda: (self._found.lost, self._found.missing)],
            ),
        )

    def _describe(self, identity: Identity) -> Identity:
        return describe(self._root, identity, self._topology)

    def _counts(self) -> dict[str, int]:
        return {
            "connections": self._relay.connections,
            "connections_refused": self._relay.refused,
            "handoff_connections": self._handoff.connections,
            "handoffs_refused": self._handoff.refused,
            "handles": len(self._handles),
            "keepers": len(self._keepers.pids()),
            "keepers_lost": self._keepers.lost,
        }

    # -- its life ---------------------------------------------------------------

    async def run(self) -> int:
        """Live until told to stop; the exit status."""
        self._listen_to_signals()
        self._pools.start()
        await self._wait_ready()
        if not self._stop.is_set():
            await self._open()
        await self._stop.wait()
        await self._close()
        return 70 if self._failed else 1 if self._found.lost else 0

    async def _wait_ready(self) -> None:
        """READY means that a job can run: a worker has set itself up."""
        waits = [asyncio.ensure_future(self._ears.ready.wait()), asyncio.ensure_future(self._stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    async def _open(self) -> None:
        self._found.start()
        self._watch.start()
        self._governor.refresh()
        await self._server.start()
        await self._relay.start()
        await self._handoff.start()
        await self._server.set_serving(True)
        cpus = len(self._topology.cpus)
        self._notifier.send("READY=1", f"STATUS=ready, {cpus} CPUs on {len(self._topology.nodes)} nodes")
        log.info("ready dir=%s version=%s cpus=%d", self._start.runtime.path, __version__, cpus)
        for text in self._state.missing():
            log.info('lacking what="%s"', text)
        write_late()
        self._watchdog.start()
        self._garbage.start()
        self._on_change()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_bug)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A broken invariant ends the daemon: what it would do next cannot be trusted.

        An assertion that failed in a call's handler, on what a caller sent, does
        not: nothing had been changed, and a caller could do that again and again.
        """
        loop.default_exception_handler(context)
        fatal = (IllegalTransition,) if "handler" in context else (IllegalTransition, AssertionError)
        # A callback that broke off half-way has left a worker or a job half changed.
        if "handle" in context or isinstance(context.get("exception"), fatal):
            self._failed = True
            self._stop.set()

    def _on_hangup(self) -> None:
        self._notifier.send_reloading()
        try:
            self.reload()
        except ReloadFailed as error:
            log.error("reload_failed error=%s", error.message)
        self._notifier.send("READY=1")

    async def _set_draining(self, draining: bool) -> None:
        if self._stop.is_set():
            return  # nobody can have it take jobs again
        if self._intake.draining != draining:
            log.info("draining on=%s jobs_left=%d", draining, self.engine.registry.unended)
            self._intake.draining = draining
            await self._server.set_serving(not draining)

    def reload(self) -> Reloaded:
        """Read the configuration file again; raises ReloadFailed and changes nothing."""
        try:
            config = self._start.load()
        except ConfigError as error:
            raise ReloadFailed(str(error)) from error
        self._config, told = reloaded(self._config, config)
        self.engine.registry.limits = config.jobs
        logging.getLogger().setLevel(config.daemon.log_level.upper())
        self._governor.configure(config.governor)
        log.info("reloaded changed=%s", ",".join((*told.applied, *told.needs_restart)))
        return told

    # -- the end ------------------------------------------------------------------

    def _on_idle(self) -> None:
        """The last job has ended: if there is none for a while, there is time to tidy up."""
        self._governor.queued(False)
        self._garbage.look_through_soon(lambda: self.engine.registry.unended or self._held_bytes())
        self._on_change()

    def _on_change(self) -> None:
        """Somebody came or went: an idle daemon that was asked to, or cannot be found, ends by itself."""
        self._giving_back.note()
        idle_exit_s = self._config.daemon.idle_exit_s
        busy = self._relay.connections or self._handoff.connections or self.engine.registry.unended
        if self._found.lost and not self.engine.registry.unended:
            self._stop.set()
        self._idle_end.idle(0.0 if busy else idle_exit_s)

    def _held_s(self) -> float:
        governor, registry = self._governor, self.engine.registry
        mode = governor.mode, governor.mode_ends_s
        return held_s(*mode, registry, keep_s=registry.limits.keep_s, now_s=boot_clock())

    async def _close(self) -> None:
        log.info("stopping jobs_left=%d", self.engine.registry.unended)
        self._found.close()
        self._notifier.send("STOPPING=1", "STATUS=stopping: jobs are stopped and undone")
        self._intake.draining = True
        await self._server.set_serving(False)
        await end_jobs(self.engine, self._config.daemon.stop_s)
        self._giving_back.close()
        self._idle_end.idle(0.0)
        self._garbage.stop()
        await self._server.close(CLOSE_S / 3)
        await self._relay.close(CLOSE_S / 3)
        await self._handoff.close()
        self._governor.close()
        await self._watch.close()
        self.engine.close()
        self._callers.close()
        results = await asyncio.gather(
            *(pool.close(CLOSE_S) for pool in self._pools), self._keepers.close(), return_exceptions=True
        )
        self._watchdog.close()  # not before: jobs may take stop_s to be undone
        self._closer.shutdown()
        self._raiser.close()
        if self._group is not None:
            self._group.close()
        for result in results:
            if isinstance(result, BaseException):
                log.error("close_failed error=%r", result)


async def live(start: Start) -> int:
    """Put the house together and live in it; the exit status."""
    return await House(start).run()
