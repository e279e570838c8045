from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktaskd.host.caller import Caller, read_caller
from ktaskd.host.root import HostRoot
from ktaskd.host.topology import read_topology
from ktaskd.model.topology import Node, Topology
from tests.support.machine import cpu_files, make_machine

PID = 4711
TOPOLOGY = Topology((Node(0, frozenset({0, 1})), Node(1, frozenset({2})), Node(2, frozenset())))
MACHINE = cpu_files("0-3", {0: "0-1", 1: "2-3", 2: ""})


def stat_line(cpu: int, command: str = "cat") -> str:
    """Fields 3 to 52 of stat have their own number as value, except for the processor."""
    fields = ["S", *(str(number) for number in range(4, 39)), str(cpu), *(str(n) for n in range(40, 53))]
    return f"{PID} ({command}) {' '.join(fields)}\n"


def caller(top: Path, *, status: str = "", stat: str = "") -> Caller:
    files = MACHINE | {f"/proc/{PID}/status": status, f"/proc/{PID}/stat": stat}
    return read_caller(make_machine(top, files), PID, TOPOLOGY)


def status_text(cpulist: str) -> str:
    return f"Name:\tcat\nCpus_allowed:\tf\nCpus_allowed_list:\t{cpulist}\nMems_allowed_list:\t0\n"


def test_cpus_when_bound_then_those(tmp_path: Path) -> None:
    assert caller(tmp_path, status=status_text("1,3")).cpus == {1, 3}


def test_cpus_when_possible_ones_are_off_then_not_counted(tmp_path: Path) -> None:
    assert caller(tmp_path, status=status_text("0-127")).cpus == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "status", ["", "Cpus_allowed_list:\t\n", "Cpus_allowed_list:\tx-y\n", "Name:\tcat\n", "\udcff"]
)
def test_cpus_when_unreadable_then_unknown(tmp_path: Path, status: str) -> None:
    assert caller(tmp_path, status=status).cpus == frozenset()


def test_cpus_when_the_name_looks_like_the_field_then_the_field_counts(tmp_path: Path) -> None:
    # The kernel writes a newline in a name as "\n", so it cannot start a line.
    forged = "Name:\tCpus_allowed_list:\t0\n" + status_text("1")
    assert caller(tmp_path, status=forged).cpus == {1}


@pytest.mark.parametrize(("cpu", "nid"), [(0, 0), (1, 0), (2, 1)])
def test_nid_when_running_then_the_node_of_its_cpu(tmp_path: Path, cpu: int, nid: int) -> None:
    assert caller(tmp_path, stat=stat_line(cpu)).nid == nid


def test_nid_when_on_a_cpu_that_the_daemon_may_not_use_then_its_node(tmp_path: Path) -> None:
    assert caller(tmp_path, stat=stat_line(3)).nid == 1


def test_nid_when_the_command_is_hostile_then_the_field_counts(tmp_path: Path) -> None:
    assert caller(tmp_path, stat=stat_line(2, ") S 1 2 (\udcff\n) R 0")).nid == 1


@pytest.mark.parametrize(
    "stat", ["", "4711 (cat) S 1", "garbage", stat_line(99), stat_line(0).replace(" 0 ", " x ")]
)
def test_nid_when_unreadable_then_unknown(tmp_path: Path, stat: str) -> None:
    assert caller(tmp_path, stat=stat).nid == -1


def test_caller_when_process_is_gone_then_all_unknown(tmp_path: Path) -> None:
    root = make_machine(tmp_path, MACHINE)
    for pid in (PID, 0, -1, 2**31 - 1):
        assert read_caller(root, pid, TOPOLOGY) == Caller(frozenset(), -1, 0.0)


def test_caller_when_real_child_is_bound_then_its_cpu_and_node() -> None:
    cpu = max(os.sched_getaffinity(0))
    topology = read_topology(HostRoot(), frozenset(os.sched_getaffinity(0)))
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end_write)
        os.sched_setaffinity(0, {cpu})
        os.write(ready_write, b"x")
        os.read(end_read, 1)
        os._exit(0)
    try:
        os.read(ready_read, 1)
        found = read_caller(HostRoot(), child, topology)
    finally:
        for fd in (ready_read, ready_write, end_read, end_write):
            os.close(fd)
        os.waitpid(child, 0)
    assert found.cpus == {cpu}
    assert found.nid == topology.nid_of(cpu)
