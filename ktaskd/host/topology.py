"""Read which NUMA nodes exist, with their CPUs and memory.

Source: Documentation/admin-guide/cputopology.rst, Documentation/ABI/stable/sysfs-devices-node
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.topology import Node, Topology, parse_cpulist

_MEMORY_TOTAL = re.compile(r"MemTotal:\s+(\d+) kB")


def read_topology(root: HostRoot, allowed: frozenset[int]) -> Topology:
    """Read the machine's nodes, with their CPUs that are online and `allowed`.

    Nodes without such CPUs are kept, since they have memory. A machine that shows no nodes
    counts as one node 0 with all the CPUs.

    Args:
        allowed: CPUs that the daemon may use, from sched_getaffinity(2), which respects
            its cpuset.
    """
    online = read_online_cpus(root)
    usable = allowed & online if online else allowed
    nodes = read_node_cpus(root)
    if not any(nodes.values()):
        return Topology((Node(0, usable, _memory_bytes(root.proc / "meminfo")),))
    directory = _node_directory(root)
    return Topology(
        tuple(
            Node(nid, nodes[nid] & usable, _memory_bytes(directory / f"node{nid}" / "meminfo"))
            for nid in sorted(nodes)
        )
    )


def read_online_cpus(root: HostRoot) -> frozenset[int]:
    """Read which CPUs are online; empty if that cannot be read."""
    return _read_cpulist(root.sys / "devices/system/cpu/online")


def read_node_cpus(root: HostRoot) -> Mapping[int, frozenset[int]]:
    """Read every online node with all its CPUs, allowed or not; empty without NUMA."""
    directory = _node_directory(root)
    nids = _read_cpulist(directory / "online")
    return {nid: _read_cpulist(directory / f"node{nid}" / "cpulist") for nid in nids}


def _node_directory(root: HostRoot) -> Path:
    return root.sys / "devices/system/node"


def _read_cpulist(path: Path) -> frozenset[int]:
    try:
        return parse_cpulist(read_kernel_text(path) or "")
    except ValueError:
        return frozenset()


def _memory_bytes(path: Path) -> int:
    """MemTotal of a meminfo file; 0 if it cannot be read."""
    match = _MEMORY_TOTAL.search(read_kernel_text(path) or "")
    return int(match.group(1)) * 1024 if match else 0
