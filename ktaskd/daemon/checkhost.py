"""`ktaskd --check-host`: whether helpers really give way on this machine, measured.

A helper is started as the daemon starts its own, by a pool and its host, and
is set beside busy loops that want the same CPU. What it gives up and what is
lacking are found by the same code as in a daemon. Where it is to be measured
how a service does, this is to be started as that service is.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from pathlib import Path

from ktaskd.daemon import machine
from ktaskd.daemon.config import Config
from ktaskd.daemon.findings import GIVES_WAY_BELOW as GIVES_WAY_BELOW
from ktaskd.daemon.findings import Findings as Findings
from ktaskd.daemon.lacking import Lacking
from ktaskd.daemon.notify import Notifier
from ktaskd.daemon.plugins import offered
from ktaskd.daemon.racing import PATIENCE_S, WorkerEars, busy_helper, race_all
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
    """Measure, and print what was found; 0 = helpers give way, 1 = they do not.

    Args:
        directory: the runtime directory of the daemon in question; None = not known.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # what is worth it is printed below
    found = Findings()
    try:
        asyncio.run(_check(config, directory, found))
    except (TimeoutError, OSError) as error:
        found.add("not measured", str(error) or f"nothing happened for {PATIENCE_S:.0f} s")
    print(found.format())
    return 0 if found.good else 1


async def _check(config: Config, directory: Path | None, found: Findings) -> None:
    root = HostRoot()
    mode, _ = machine.socket_mode(config.sockets, os.geteuid())
    private = not would_be_reached_by_others(directory, mode)
    if not private or os.geteuid() == 0:
        apply_undumpable()  # as a daemon that serves others, and so are its workers
    _describe_host(root, found)
    group, why = machine.make_idle_group(config.workers)
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
        return "not wanted by workers.idle_group"
    return str(group.path) if group else why.partition(": ")[2] or "not needed"


def _describe_host(root: HostRoot, found: Findings) -> None:
    """What decides about priorities on this machine."""
    topology = read_topology(root, frozenset(os.sched_getaffinity(0)))
    nodes = [f"{node.nid}: CPUs {format_cpulist(node.cpus) or 'none'}" for node in topology.nodes]
    found.add("nodes", "; ".join(nodes))
    place = cpugroup.read_cpu_groups(root)
    found.add("cgroups", cpugroup.describe(root))
    if place.enclosed:
        found.add("container", "what is outside of it has the weight of this container against it, always")
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
    user = machine.worker_user(config.workers, os.geteuid(), private=private)
    ears, numbers = WorkerEars(), itertools.count(1)
    starter = machine.helpers_unit(config.workers, -1, os.close)
    # As `machine.pool_specs` has it, with one place.
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
    pool = Pool(spec, ears, lambda: next(numbers), group=group, starter=starter)
    watch = Watch(root, lambda: None)
    cgroup_fds = (group.idle_fd, group.normal_fd) if group else (-1, -1)
    async with contextlib.AsyncExitStack() as end:
        end.push_async_callback(watch.close)
        watch.start()
        raiser = end.enter_context(contextlib.closing(Raiser(*cgroup_fds)))
        governor = Governor(config.governor, machine.make_allowance(topology, config.workers), watch, _ignore)
        end.callback(governor.close)
        governor.refresh()
        _, problems = offered(False, config.functions.dir, (user.uid, user.gid), own_code=user.own_code)
        lacking = Lacking(user, Notifier(), no_group, problems, watch, governor, [pool], raiser)
        worker = await end.enter_async_context(busy_helper(pool, ears))
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
    """Nobody is to be told of an allowance."""
