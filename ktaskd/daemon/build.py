"""Makes every part of a daemon, in the order in which the parts need each other.

Nothing that is made here runs yet; `daemon/life.py` starts and stops it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from ktaskd import __version__
from ktaskd.api.guard import Guard
from ktaskd.api.memory import PrivateMemory
from ktaskd.api.server import Server
from ktaskd.api.state import Daemon
from ktaskd.daemon import hostconfig
from ktaskd.daemon.application import Application, Doors, Facts, Lifecycle, Upkeep, Workers
from ktaskd.daemon.events import WorkerEvents
from ktaskd.daemon.found import Found
from ktaskd.daemon.garbage import Garbage
from ktaskd.daemon.givingback import GivingBack
from ktaskd.daemon.idle import IdleEnd, held_s
from ktaskd.daemon.lacking import Lacking
from ktaskd.daemon.metering import Metering
from ktaskd.daemon.notify import Notifier
from ktaskd.daemon.plugins import offered
from ktaskd.daemon.pools import Pools
from ktaskd.daemon.raising import RaisingLessons
from ktaskd.daemon.start import Start
from ktaskd.daemon.watchdog import Watchdog, find_wrong
from ktaskd.door.admission.shares import Shares
from ktaskd.door.callers.commands import Commands
from ktaskd.door.callers.peers import PeerTable
from ktaskd.door.entry import Entry
from ktaskd.door.handoff.door import HandoffDoor
from ktaskd.door.handoff.handles import BackgroundCloser, HandleTable
from ktaskd.door.handoff.keeperpool import KeeperLimits
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.door.relay.door import RelayDoor
from ktaskd.door.sockets.listener import ListenError
from ktaskd.governor.governor import Governor, boot_clock
from ktaskd.governor.watch import Watch
from ktaskd.host.caller import describe, read_caller
from ktaskd.host.files.disk import read_disk
from ktaskd.host.libc import trim_heap
from ktaskd.host.processes.commandline import read_command
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
from ktaskd.jobs.patience import Clocks, Patience
from ktaskd.jobs.ports import PoolRequests
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.room import MemoryRoom
from ktaskd.metrics.reading import Parts
from ktaskd.model.function import Declaration
from ktaskd.pool.pool import PoolHooks


def build(start: Start, life: Lifecycle) -> Application:
    """Make all parts of a daemon but its server. Needs the running loop."""
    facts = _look(start)
    workers = _build_workers(start, life, facts)
    engine, pools, closer = workers.engine, workers.pools, BackgroundCloser()
    doors = _build_doors(start, life, facts, engine, closer)
    watch, governor = _build_governor(start, life, facts, pools, doors.keepers)
    callers = Callers(
        lambda pid: read_caller(facts.root, pid, facts.topology),
        lambda who: Incarnation(facts.root, who.pid, who.pidfd, who.start_ticks),
        engine.set_caller,
    )
    user = facts.user
    functions, problems = offered(
        start.selftest, start.config.functions.dir, (user.uid, user.gid), own_code=user.own_code
    )
    intake = _build_intake(start, facts, workers, doors, callers, functions)
    metering = _build_metering(start, facts, workers, doors, governor)
    upkeep = _build_upkeep(start, life, engine, doors, governor, metering)
    missing = Lacking(
        user=user,
        notifier=upkeep.notifier,
        no_group=workers.no_group,
        functions=problems,
        watch=watch,
        governor=governor,
        pools=pools.all,
        raiser=workers.raiser,
        others=[lambda: (upkeep.found.lost, upkeep.found.missing), metering.missing],
    )
    return Application(
        start, facts, workers, doors, closer, watch, governor, callers, intake, upkeep, missing
    )


def _look(start: Start) -> Facts:
    """Look at the machine, and allow as many open files as it gives."""
    root, workers = HostRoot(), start.config.workers
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    private = not start.listeners.reached_by_others()
    return Facts(
        root,
        topology,
        hostconfig.raise_file_limit(),
        hostconfig.worker_user(workers, os.geteuid(), private=private),
        hostconfig.make_allowance(topology, workers),
        hostconfig.admin_uids(),
    )


def _build_workers(start: Start, life: Lifecycle, facts: Facts) -> Workers:
    settings = start.config.workers
    pools: Pools  # made last: the pools need the engine, and dispatch calls them only later
    requests = PoolRequests(
        lambda count: pools.want_leads(count),
        lambda nid, count: pools.want_helpers(nid, count),
        lambda group, kind, **where: pools.admit_guest(group, kind, **where),
    )
    dispatch = Dispatch(facts.topology, facts.allowance, requests, HostKernel(), time.time)
    group, no_group = hostconfig.make_idle_group(settings)
    raiser = Raiser(*((group.idle_fd, group.normal_fd) if group else (-1, -1)))
    lessons = RaisingLessons(raiser, start.own_cgroup_fd, lambda: life.stopping)
    engine = Engine(
        Registry(start.config.jobs, facts.admins),
        dispatch,
        Patience(settings.cancel_grace_s, settings.fence_s, settings.hang_cpu_s, settings.starvation_s),
        Clocks(time.time),
        raiser,
    )
    engine.on_idle = life.on_idle
    events = WorkerEvents(engine, lessons.on_ready)
    unit = hostconfig.helpers_unit(settings, start.own_cgroup_fd, lessons.on_cgroup_fd)
    pools = Pools(
        hostconfig.pool_specs(facts.topology, facts.allowance, facts.user, settings),
        hostconfig.guest_spec(facts.topology, facts.user),
        events,
        group=group,
        hooks=PoolHooks(dispatch.remove, raiser.raise_),
        helpers_unit=unit,
    )
    return Workers(engine, pools, events, raiser, group, no_group)


def _build_doors(
    start: Start, life: Lifecycle, facts: Facts, engine: Engine, closer: BackgroundCloser
) -> Doors:
    sockets, listeners, gone = start.config.sockets, start.listeners, engine.forget_source
    handles = HandleTable(per_uid=sockets.handles_per_uid, on_gone=gone, close=closer)
    keepers = Keepers(KeeperLimits(admins=facts.admins), on_gone=gone, close=closer)
    peers = PeerTable(
        lambda identity: describe(facts.root, identity, facts.topology),
        Commands(lambda pid, uid: read_command(facts.root, pid, uid)).of,
    )
    entry = Entry(reception=hostconfig.reception(facts.root), on_change=life.on_change)
    turns = entry.turns
    engine.on_cost = lambda who, cost_s: turns.find(who.uid, who.payer).charge(cost_s)

    def connections(total: int, per_uid: int) -> Shares:
        return Shares("connections", total=total, per_uid=per_uid, admins=facts.admins)

    relays = connections(sockets.connections, sockets.connections_per_uid)
    path, stall_s = start.runtime.dial_path, sockets.watch_stall_s
    relay = RelayDoor(listeners.relay, path, peers, relays, entry, stall_s)
    handoffs = connections(sockets.handoffs, sockets.handoffs_per_uid)
    handoff = HandoffDoor(listeners.handoff, handles, keepers, handoffs, entry)
    return Doors(entry, peers, relay, handoff, handles, keepers)


def _build_intake(
    start: Start,
    facts: Facts,
    workers: Workers,
    doors: Doors,
    callers: Callers,
    functions: Mapping[str, Declaration],
) -> Intake:
    rights = Rights(facts.admins, facts.user.refusal, os.geteuid() if facts.user.own_code else None)
    conditions = Conditions(
        CallerMemory(facts.root, workers.pools.shared_pids),
        callers,
        DiskOf(start.config.disks, lambda device: read_disk(facts.root, device)),
        MemoryRoom(facts.root),
    )
    opener = Opener(doors.handles, doors.keepers, rights)
    return Intake(workers.engine, functions, opener, facts.topology, rights, conditions)


def _build_governor(
    start: Start, life: Lifecycle, facts: Facts, pools: Pools, keepers: Keepers
) -> tuple[Watch, Governor]:
    def own_pids() -> list[int]:
        return [*pools.pids(), *keepers.pids().values()]

    watch = Watch(start.host_root, lambda: governor.look())
    governor = Governor(start.config.governor, facts.allowance, watch, life.on_allowance, own=own_pids)
    return watch, governor


def _build_metering(
    start: Start, facts: Facts, workers: Workers, doors: Doors, governor: Governor
) -> Metering:
    parts = Parts(workers.engine, governor, workers.pools.all, doors.counts, time.time(), __version__)
    return Metering(start.config.metrics, parts, facts.root, facts.admins)


def _build_upkeep(
    start: Start, life: Lifecycle, engine: Engine, doors: Doors, governor: Governor, metering: Metering
) -> Upkeep:
    def seconds_held() -> float:
        mode, kept = (governor.mode, governor.mode_ends_s), engine.registry
        return held_s(*mode, kept, keep_s=kept.limits.keep_s, now_s=boot_clock())

    giving_back = GivingBack(resident_bytes, trim_heap, doors.held_bytes)
    engine.registry.on_freed = giving_back.note
    for budget in (doors.entry.turns.answers, doors.relay.requests):
        budget.on_change = giving_back.note
    notifier = Notifier()
    return Upkeep(
        notifier,
        Found(start.runtime, life.on_lost),
        Garbage(),
        giving_back,
        Watchdog(notifier, lambda: find_wrong(engine.dispatch, start.runtime.inner_path), life.status),
        IdleEnd(seconds_held, life.stop),
        metering,
    )


def build_server(app: Application, life: Lifecycle) -> Server:
    """Make the gRPC server on its private socket, and publish that socket.

    Raises:
        ListenError: the socket cannot be made.
    """
    sockets, runtime = app.start.config.sockets, app.start.runtime
    try:
        server = Server(
            _state(app, life),
            os.fspath(runtime.unpublished_path),
            _guard(app),
            streams_max=sockets.streams,
        )
    except RuntimeError as error:
        raise ListenError(runtime.why_unbound()) from error
    runtime.publish()
    return server


def _guard(app: Application) -> Guard:
    sockets, peers = app.start.config.sockets, app.doors.peers
    per_uid = sockets.calls_per_uid
    return Guard(
        peers.identity,
        stall_s=sockets.watch_stall_s,
        # An account gets at most half of the total, so a single uid can reach its own limit.
        shares=Shares("calls", total=2 * per_uid, per_uid=per_uid, admins=app.facts.admins),
        turns=app.doors.entry.turns,
        taken=peers.taken,
        room=peers.reading,
    )


def _state(app: Application, life: Lifecycle) -> Daemon:
    facts, workers = app.facts, app.workers

    def worker_pids() -> list[int]:
        return [worker.pid for pool in workers.pools for worker in pool.workers if worker.pid]

    return Daemon(
        version=__version__,
        start_s=time.time(),
        runtime_dir=os.fsencode(app.start.runtime.path).decode(errors="backslashreplace"),
        selftest=app.start.selftest,
        admin_uids=facts.admins,
        topology=facts.topology,
        pools=workers.pools.all,
        engine=workers.engine,
        intake=app.intake,
        governor=app.governor,
        reload=life.reload,
        set_draining=life.set_draining,
        limits=lambda: hostconfig.limits_in_force(life.config, facts.files),
        counts=app.doors.counts,
        raiser=workers.raiser,
        missing=app.missing,
        memory=PrivateMemory(worker_pids),
    )
