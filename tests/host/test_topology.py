from __future__ import annotations

import os
from pathlib import Path

from ktaskd.host.root import HostRoot
from ktaskd.host.topology import read_node_cpus, read_online_cpus, read_topology
from ktaskd.model.topology import Node, Topology
from tests.support.machine import cpu_files, make_machine

GIB = 1 << 30
ALL = frozenset(range(64))


def test_topology_when_two_nodes_then_each_has_its_cpus_and_memory(tmp_path: Path) -> None:
    root = make_machine(tmp_path, cpu_files("0-7", {0: "0-1,4-5", 1: "2-3,6-7"}))
    assert read_topology(root, ALL) == Topology(
        (Node(0, frozenset({0, 1, 4, 5}), GIB), Node(1, frozenset({2, 3, 6, 7}), 2 * GIB))
    )


def test_topology_when_node_without_cpus_then_kept(tmp_path: Path) -> None:
    root = make_machine(tmp_path, cpu_files("0-1", {0: "0-1", 2: ""}))
    assert read_topology(root, ALL).nodes[1] == Node(2, frozenset(), 3 * GIB)


def test_topology_when_cpus_are_offline_then_dropped(tmp_path: Path) -> None:
    root = make_machine(tmp_path, cpu_files("0,2", {0: "0-1", 1: "2-3"}))
    assert [node.cpus for node in read_topology(root, ALL).nodes] == [{0}, {2}]


def test_topology_when_not_all_are_allowed_then_only_those(tmp_path: Path) -> None:
    root = make_machine(tmp_path, cpu_files("0-3", {0: "0-1", 1: "2-3"}))
    assert [node.cpus for node in read_topology(root, frozenset({3, 9})).nodes] == [set(), {3}]


def test_topology_when_node_numbers_are_not_in_order_then_ascending(tmp_path: Path) -> None:
    root = make_machine(tmp_path, cpu_files("0-3", {8: "2-3", 1: "0-1"}))
    assert [node.nid for node in read_topology(root, ALL).nodes] == [1, 8]


def test_topology_when_no_numa_then_one_node(tmp_path: Path) -> None:
    root = make_machine(
        tmp_path, cpu_files("0-2", {}) | {"/proc/meminfo": "MemTotal:  1048576 kB\nMemFree: 1 kB\n"}
    )
    assert read_topology(root, ALL) == Topology((Node(0, frozenset({0, 1, 2}), GIB),))


def test_topology_when_nothing_can_be_read_then_one_node_of_what_is_allowed(tmp_path: Path) -> None:
    assert read_topology(HostRoot(tmp_path), frozenset({0, 5})) == Topology((Node(0, frozenset({0, 5})),))


def test_topology_when_a_file_is_garbage_then_that_is_unknown(tmp_path: Path) -> None:
    files = cpu_files("0-3", {0: "0-1", 1: "2-3"})
    files["/sys/devices/system/node/node1/cpulist"] = "2-x\n"
    files["/sys/devices/system/node/node1/meminfo"] = "\udcff"
    nodes = read_topology(make_machine(tmp_path, files), ALL).nodes
    assert nodes == (Node(0, frozenset({0, 1}), GIB), Node(1, frozenset()))


def test_topology_when_real_machine_then_every_allowed_cpu_is_on_one_node() -> None:
    allowed = frozenset(os.sched_getaffinity(0))
    topology = read_topology(HostRoot(), allowed)
    assert sorted(cpu for node in topology.nodes for cpu in node.cpus) == sorted(allowed)
    assert sum(node.memory_bytes for node in topology.nodes) > 0
    assert allowed <= read_online_cpus(HostRoot())
    assert set(read_node_cpus(HostRoot())) <= {node.nid for node in topology.nodes}
