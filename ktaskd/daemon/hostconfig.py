"""Turns the configuration into what this machine and this user allow: users, groups, limits, workers."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ktaskd.daemon.config import Config, SocketSettings, WorkerSettings
from ktaskd.door.callers.accountbook import AccountBook, UserSource
from ktaskd.door.callers.reception import Reception
from ktaskd.host.cgroups import idlegroup
from ktaskd.host.cgroups.cpugroup import read_cpu_groups
from ktaskd.host.cgroups.idlegroup import IdleGroup
from ktaskd.host.people.users import (
    find_uid,
    is_known_to_name_service,
    is_mapped,
    read_nobody,
    read_stamp,
    read_user_files,
)
from ktaskd.host.root import HostRoot
from ktaskd.model.allowance import Allowance
from ktaskd.model.limits import BLOCKED_MAX, SPARE_HELPERS
from ktaskd.model.topology import Topology
from ktaskd.model.worker import WorkerClass
from ktaskd.pool.pool import PoolSpec
from ktaskd.pool.starting import HelpersUnit


@dataclass(frozen=True, slots=True)
class WorkerUser:
    """The user that workers run as; -1 = the daemon's.

    Args:
        refusal: why only admins may run jobs; "" = everybody may.
        own_code: workers run code of the daemon's own user, since nobody else can reach the daemon.
        wanted: the refusal was configured, so nothing is missing.
    """

    uid: int = -1
    gid: int = -1
    refusal: str = ""
    own_code: bool = False
    wanted: bool = False


def worker_user(settings: WorkerSettings, euid: int, *, private: bool = False) -> WorkerUser:
    """Choose the user of the workers. A root daemon has workers without rights, or serves only root.

    Args:
        private: only the daemon's own user reaches its sockets.
    """
    if euid != 0:
        return WorkerUser(own_code=private)
    if not settings.user:
        return WorkerUser(refusal='workers.user is ""', own_code=private, wanted=True)
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        return WorkerUser(
            refusal=f'the daemon is root and has no user "{settings.user}" for its workers; '
            "create that system user or set workers.user",
            own_code=private,
        )
    if entry.pw_uid == 0:
        return WorkerUser(
            refusal=f'workers.user "{settings.user}" is uid 0, whose rights must not serve other users; '
            "set it to a system user without rights",
            own_code=private,
        )
    return WorkerUser(entry.pw_uid, entry.pw_gid)


def socket_mode(settings: SocketSettings, euid: int) -> tuple[int, int]:
    """Return mode and group of the sockets; group -1 = the daemon's."""
    gid = -1
    if euid == 0 and settings.group:
        try:
            gid = grp.getgrnam(settings.group).gr_gid
        except KeyError:
            gid = -1
    if settings.mode != "auto":
        return int(settings.mode, 8), gid
    return (0o660, gid) if gid >= 0 else (0o600, -1)


def make_allowance(topology: Topology, settings: WorkerSettings) -> Allowance:
    """Return the largest allowance that the governor may give: all workers."""
    helpers = {
        node.nid: min(len(node.cpus), settings.helpers_per_node or len(node.cpus)) for node in topology.nodes
    }
    leads = settings.leads or len(topology.cpus)
    return Allowance(helpers, leads, min(settings.leads_per_uid or leads, leads))


def pool_specs(
    topology: Topology, allowance: Allowance, user: WorkerUser, settings: WorkerSettings
) -> Sequence[PoolSpec]:
    """Return the spec of one pool for each node that has CPUs, and of one for the leads."""

    def spec(name: str, kind: WorkerClass, nid: int, cpus: frozenset[int], size: int) -> PoolSpec:
        slots, warm = tuple(sorted(cpus)), min(settings.warm, size)
        idle_s = settings.idle_timeout_s
        # Workers that are blocked do not count against those that may work, so there can be more.
        most = size + (BLOCKED_MAX if kind is WorkerClass.LEAD else SPARE_HELPERS)
        return PoolSpec(name, kind, nid, slots, most, warm, user.uid, user.gid, idle_s, user.own_code, size)

    specs = []
    for node in topology.nodes:
        count = allowance.helpers[node.nid]
        if count:
            cpus = frozenset(sorted(node.cpus)[:count])
            specs.append(spec(f"node{node.nid}", WorkerClass.HELPER, node.nid, cpus, count))
    return [*specs, spec("leads", WorkerClass.LEAD, -1, topology.cpus, allowance.leads)]


def make_idle_group(settings: WorkerSettings) -> tuple[IdleGroup | None, str]:
    """Make the helpers' own cgroup; or return None, with the reason and what would help."""
    if settings.idle_group == "never" or settings.helpers_socket:
        return None, ""
    place = read_cpu_groups(HostRoot())
    if place.idle and place.idle[0]:
        return None, ""  # the service manager has made one, which is better
    try:
        return idlegroup.make_idle_group(), ""
    except idlegroup.IdleGroupRefused as error:
        return None, f"idle cgroup: {error}"


def helpers_unit(
    settings: WorkerSettings, own_cgroup_fd: int, on_cgroup_fd: Callable[[int], None]
) -> HelpersUnit | None:
    """Return the starter of the helpers' pool hosts; None = they are the daemon's own children."""
    if not settings.helpers_socket:
        return None
    return HelpersUnit(Path(settings.helpers_socket), normal_fd=own_cgroup_fd, on_cgroup_fd=on_cgroup_fd)


def guest_spec(topology: Topology, user: WorkerUser) -> PoolSpec:
    """Return the spec of the pool of workers in callers' memory cgroups."""
    cpus = tuple(sorted(topology.cpus))
    return PoolSpec("guests", WorkerClass.LEAD, -1, cpus, 0, 0, user.uid, user.gid, own_code=user.own_code)


def raise_file_limit() -> int:
    """Raise the limit of open files to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def admin_uids() -> frozenset[int]:
    """Return the uids of admins: 0 and the daemon's own."""
    return frozenset({0, os.geteuid()})


def reception(root: HostRoot) -> Reception:
    """Make the part that identifies callers, from this machine's users and our user namespace."""
    source = UserSource(
        lambda: read_stamp(root), lambda: read_user_files(root), is_known_to_name_service, find_uid
    )
    book = AccountBook(source, admin_uids(), time.monotonic)
    return Reception(account_of=book.account_of, nobody=read_nobody(root), admins=admin_uids())


def unmapped(root: HostRoot) -> str:
    """Return why the daemon cannot tell users apart here; "" = it can."""
    uid = os.geteuid()
    if is_mapped(root, uid):
        return ""
    return (
        f"uid {uid}: our user namespace does not map it, so that all users look the same;"
        " start the daemon with its own uid mapped, as `unshare --map-current-user` does"
    )


def limits_in_force(config: Config, files: int) -> dict[str, int]:
    """Return the limits that a status shows, by name."""
    sockets, jobs = config.sockets, config.jobs
    return {
        "connections": sockets.connections,
        "connections_per_uid": sockets.connections_per_uid,
        "handoffs": sockets.handoffs,
        "handoffs_per_uid": sockets.handoffs_per_uid,
        "handles_per_uid": sockets.handles_per_uid,
        "streams_per_connection": sockets.streams,
        "calls_per_uid": sockets.calls_per_uid,
        "watch_stall_seconds": int(sockets.watch_stall_s),
        "jobs_queued": jobs.queued,
        "jobs_queued_per_uid": jobs.queued_per_uid,
        "jobs_kept": jobs.kept,
        "jobs_keep_seconds": int(jobs.keep_s),
        "open_files": files,
    }
