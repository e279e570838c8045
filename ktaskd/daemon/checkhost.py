"""`ktaskd --check-host`: measures whether helpers really give way on this machine.

It starts a helper as the daemon does, through a pool and its host, next to busy
loops that use the same CPU. The same code as in a daemon finds out what the helper gives up
and what is missing. To measure for a service, start this the way that service is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from pathlib import Path

from ktaskd.daemon import hostconfig
from ktaskd.daemon.config import Config
from ktaskd.daemon.findings import GIVES_WAY_BELOW as GIVES_WAY_BELOW
from ktaskd.daemon.findings import Findings as Findings
from ktaskd.daemon.lacking import Lacking
from ktaskd.daemon.notify import Notifier
from ktaskd.daemon.plugins import offered
from ktaskd.daemon.racing import PATIENCE_S, WorkerQueue, busy_helper, race_all
from ktaskd.door.sockets.listener import would_be_reached_by_others
from ktaskd.governor.governor import Governor
from ktaskd.governor.watch import Watch
from ktaskd.host.cgroups import cpugroup, idlegroup
from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.host.processes.process import apply_undumpable
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling import sched
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.host.topology import read_topology
from ktaskd.model.topology import format_cpulist
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.pool import Pool, PoolSpec


def check_host(config: Config, directory: Path | None = None) -> int:
    """Measure, and print the findings; return 0 if helpers give way, 1 if not.

    Args:
        directory: the runtime directory of the daemon in question; None = not known.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # the findings are printed below
    found = Findings()
    try:
        asyncio.run(_check(config, directory, found))
    except (TimeoutError, OSError) as error:
        found.add("not measured", str(error) or f"nothing happened for {PATIENCE_S:.0f} s")
    print(found.format())
    return 0 if found.good else 1


async def _check(config: Config, directory: Path | None, found: Findings) -> None:
    root = HostRoot()
    mode, _ = hostconfig.socket_mode(config.sockets, os.geteuid())
    private = not would_be_reached_by_others(directory, mode)
    if not private or os.geteuid() == 0:
        apply_undumpable()  # like a daemon that serves other users; its workers inherit it
    _describe_host(root, found)
    group, why = hostconfig.make_idle_group(config.workers)
    try:
        found.add("own idle cgroup", _describe_group(config, group, why))
        await _measure(config, root, (group, why), private, found)
    finally:
        if group is not None:
            group.close()


def _describe_group(config: Config, group: IdleGroup | None, why: str) -> str:
    if config.workers.helpers_socket:
        return f"helpers come from {config.workers.helpers_socket}"
    if config.workers.idle_group == "never":
        return 'none, since workers.idle_group is "never"'
    return str(group.path) if group else why.partition(": ")[2] or "not needed"


def _describe_host(root: HostRoot, found: Findings) -> None:
    """Report what decides about priorities on this machine."""
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    nodes = [f"{node.nid}: CPUs {format_cpulist(node.cpus) or 'none'}" for node in topology.nodes]
    found.add("nodes", "; ".join(nodes))
    place = cpugroup.read_cpu_groups(root)
    found.add("cgroups", cpugroup.describe(root))
    if place.enclosed:
        found.add("container", "against processes outside, helpers have the weight of this container")
    found.add(
        "systemd", "manages the cgroups" if idlegroup.is_managed(root) else "does not manage the cgroups"
    )
    found.add("autogroup", _describe_autogroup())
    psi = os.access(root.proc / "pressure/cpu", os.R_OK)
    found.add("pressure (PSI)", "can be read" if psi else "cannot be read: boot with psi=1")


def _describe_autogroup() -> str:
    nice = sched.read_autogroup_nice()
    if nice is not None:
        return f"on, nice {nice} for this session"
    return "on, this session is in none" if sched.has_autogroups() else "none, or off"


async def _measure(
    config: Config, root: HostRoot, made: tuple[IdleGroup | None, str], private: bool, found: Findings
) -> None:
    (group, no_group), cpu = made, max(os.sched_getaffinity(0))
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    user = hostconfig.worker_user(config.workers, os.geteuid(), private=private)
    events, numbers = WorkerQueue(), itertools.count(1)
    starter = hostconfig.helpers_unit(config.workers, -1, os.close)
    # Like a spec of `hostconfig.pool_specs`, for one worker.
    spec = PoolSpec(
        "check",
        WorkerClass.HELPER,
        topology.nid_of(cpu),
        (cpu,),
        1,
        1,
        user.uid,
        user.gid,
        0.0,
        user.own_code,
    )
    pool = Pool(spec, events, lambda: next(numbers), group=group, starter=starter)
    watch = Watch(root, lambda: None)
    cgroup_fds = (group.idle_fd, group.normal_fd) if group else (-1, -1)
    async with contextlib.AsyncExitStack() as end:
        end.push_async_callback(watch.close)
        watch.start()
        raiser = end.enter_context(contextlib.closing(Raiser(*cgroup_fds)))
        governor = Governor(
            config.governor, hostconfig.make_allowance(topology, config.workers), watch, _ignore
        )
        end.callback(governor.close)
        governor.refresh()
        _, problems = offered(False, config.functions.dir, (user.uid, user.gid), own_code=user.own_code)
        lacking = Lacking(user, Notifier(), no_group, problems, watch, governor, [pool], raiser)
        worker = await end.enter_async_context(busy_helper(pool, events))
        applied = worker.applied
        found.gives_way_by = applied.gives_way_by
        found.add(
            "helper",
            f"{applied.policy} policy, nice {applied.nice}, disk {applied.ioprio}, autogroup nice "
            f"{applied.autogroup_nice}, cgroup {applied.cgroup or 'none'}, uid {applied.uid}",
        )
        found.add("given up", ", ".join(applied.gave_up) or "nothing")
        found.add("gives way by", applied.gives_way_by or "nothing")
        await race_all(worker, cpu, root, raiser, found)
        found.advise([*applied.missing, *lacking()])


def _ignore(_: object) -> None:
    """Do nothing with an allowance."""
