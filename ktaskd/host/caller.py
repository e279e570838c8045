"""Find out where a client runs, how many CPUs it may use itself, and at which priority.

These facts only size and place its jobs. They do not prove who it is. A fact that cannot be read,
because the process is gone or hidden, counts as unknown and is never an error.
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
    """The known facts about a client's process, with the names that `Identity` uses.

    Args:
        cpus: CPUs that it may use; empty = unknown.
        nid: node that it ran on last; -1 = unknown.
        cpu_quota: CPU time that its cgroups allow, in CPUs; 0.0 = no known limit.
        priority: priority of its main thread.
    """

    cpus: frozenset[int]
    nid: int
    cpu_quota: float
    priority: Priority = ORDINARY


def describe(root: HostRoot, who: Identity, topology: Topology) -> Identity:
    """Add the facts that /proc has about the process that just connected, if it is still alive.

    They are read before the check that the process is alive. So they belong to it, and not to
    a later process with the same pid.
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
    """Read the facts that /proc has about `pid` now.

    Args:
        topology: the machine as the daemon sees it. A client may run on a CPU that the
            daemon cannot use.
    """
    return Caller(
        _read_cpus(root, pid),
        _read_nid(root, pid, topology),
        read_cpu_quota(root, pid),
        read_priority(root, pid),
    )


def _read_cpus(root: HostRoot, pid: int) -> frozenset[int]:
    """The CPUs of its affinity, which respects its cpuset; offline CPUs do not count."""
    match = _ALLOWED.search(root.process_text(pid, "status") or "")
    try:
        allowed = parse_cpulist(match.group(1)) if match else frozenset()
    except ValueError:
        return frozenset()
    # For a process that was never bound the kernel lists every possible CPU here.
    return allowed & (read_online_cpus(root) or allowed)


def _read_nid(root: HostRoot, pid: int, topology: Topology) -> int:
    # The command in parentheses may contain blanks and parentheses itself.
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
