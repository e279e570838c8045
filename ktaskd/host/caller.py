"""Find out where a client runs, how many CPUs it may use itself, and at which priority.

Only to size and to place its jobs: nothing here is proof of who it is. What cannot be read,
because the process is gone or hidden, is unknown, never an error.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from ktaskd.host.cgroups.cgroup import read_cpu_quota
from ktaskd.host.cgroups.memgroup import read_memory_limit
from ktaskd.host.processes.incarnation import has_ended, read_start_ticks
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.priority import read_priority
from ktaskd.host.topology import read_node_cpus, read_online_cpus
from ktaskd.model.identity import Identity
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.priority import ORDINARY, Priority
from ktaskd.model.topology import Topology, parse_cpulist

_ALLOWED = re.compile(r"^Cpus_allowed_list:\s*(\S*)$", re.MULTILINE)
_PROCESSOR_FIELD = 39
"""Number of the field "processor" of /proc/PID/stat. Source: proc_pid_stat(5)."""


class Caller(NamedTuple):
    """What is known of a client's process; the same words as in `Identity`.

    Args:
        cpus: CPUs that it may use; empty = unknown.
        nid: node that it ran on last; -1 = unknown.
        cpu_quota: CPUs' worth of time that its cgroups allow; 0.0 = no limit known.
        priority: that of its main thread.
    """

    cpus: frozenset[int]
    nid: int
    cpu_quota: float
    priority: Priority = ORDINARY


def describe(root: HostRoot, who: Identity, topology: Topology) -> Identity:
    """Who just connected, with what /proc says of its process, if that lives.

    Read before it is looked whether the process lives: what was read is its then,
    and not that of a later process with its pid.
    """
    caller = read_caller(root, who.pid, topology)
    try:
        memory, known = read_memory_limit(root, who.pid), True
    except ProcessLookupError:
        memory, known = None, False
    ticks = read_start_ticks(root, who.pid)
    if not ticks or (who.pidfd >= 0 and has_ended(who.pidfd)):
        return replace(who, memory_known=False)
    who = replace(who, **caller._asdict(), start_ticks=ticks)
    return replace(who, memory=memory, memory_known=known)


def read_caller(root: HostRoot, pid: int, topology: Topology) -> Caller:
    """What /proc says of `pid` now.

    Args:
        topology: the machine as the daemon sees it; a client may well run on a
            CPU that the daemon may not use.
    """
    return Caller(
        _read_cpus(root, pid),
        _read_nid(root, pid, topology),
        read_cpu_quota(root, pid),
        read_priority(root, pid),
    )


def _read_cpus(root: HostRoot, pid: int) -> frozenset[int]:
    """Its affinity, which respects its cpuset; CPUs that are off do not count."""
    match = _ALLOWED.search(root.process_text(pid, "status") or "")
    try:
        allowed = parse_cpulist(match.group(1)) if match else frozenset()
    except ValueError:
        return frozenset()
    # Where nothing was ever bound, the kernel lists every possible CPU here.
    return allowed & (read_online_cpus(root) or allowed)


def _read_nid(root: HostRoot, pid: int, topology: Topology) -> int:
    # The command in parentheses may hold blanks and parentheses of its own.
    after = (root.process_text(pid, "stat") or "").rpartition(")")[2].split()
    try:
        cpu = int(after[_PROCESSOR_FIELD - 3])
    except (IndexError, ValueError):
        return NUMA_NO_NODE
    nid = topology.nid_of(cpu)
    if nid != NUMA_NO_NODE:
        return nid
    nodes = read_node_cpus(root)
    return next(
        (other for other, cpus in nodes.items() if cpu in cpus and topology.node(other)), NUMA_NO_NODE
    )
