"""How long others waited, by the pressure files of their cgroups."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from ktaskd.host.cgroups.cgroup import parse_mounts
from ktaskd.host.pressure.others import parse_pressure
from ktaskd.host.pressure.reading import DERIVED, WHOLE_IO, PressureReader
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Stall
from tests.host.pressure.groups import CGROUP, START_US, cpu_us, psi, wait
from tests.support.hosts import FakeHost, host
from tests.support.machine import make_machine


def test_pressure_when_the_real_machine_is_read_then_as_the_kernel_counts() -> None:
    read = PressureReader(HostRoot()).read(time.monotonic())
    again = parse_pressure(Path("/proc/pressure/memory").read_text())
    assert read.memory is not None
    assert again is not None
    assert read.memory.some_us <= again.some_us
    assert read.cpu == read.io == Stall(0)
    assert read.cpu_source
    assert read.io_source


def test_cpu_when_others_wait_then_it_adds_up(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    assert cpu_us(reader, 100.0) == 0
    wait(desktop, "user.slice", 300_000)
    assert cpu_us(reader, 102.0) == 300_000
    wait(desktop, "user.slice", 100_000)
    wait(desktop, "system.slice/ssh.service", 50_000)
    assert cpu_us(reader, 104.0) == 450_000
    assert cpu_us(reader, 106.0) == 450_000


def test_io_when_others_wait_then_it_adds_up_and_ours_does_not_count(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    reader.read(100.0)
    desktop.write(f"{CGROUP}/user.slice/io.pressure", psi(3_900_000))
    desktop.write(f"{CGROUP}/system.slice/ktaskd.service/io.pressure", psi(90_000_000))
    desktop.write("/proc/pressure/io", psi(90_000_000))
    assert reader.read(102.0).io == Stall(900_000)


def test_io_when_there_are_no_groups_of_others_then_that_of_the_whole_machine(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    assert reader.read(100.0).io is None
    for total, stall in ((5_000_000, 0), (5_300_000, 300_000), (10, 300_000)):
        bare.write("/proc/pressure/io", psi(total))
        assert reader.read(102.0).io == Stall(stall)
    assert reader.read(102.0).io_source == WHOLE_IO


def test_cpu_when_only_we_wait_then_nothing(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    cpu_us(reader, 100.0)
    wait(desktop, "system.slice/ktaskd.service", 900_000)
    wait(desktop, "system.slice", 900_000)
    desktop.write("/proc/pressure/cpu", psi(99_000_000))
    assert cpu_us(reader, 102.0) == 0


def test_cpu_when_many_wait_at_once_then_no_more_than_the_time_that_passed(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    cpu_us(reader, 100.0)
    for group in START_US:
        wait(desktop, group, 1_900_000)
    assert cpu_us(reader, 102.0) == 2_000_000


def test_cpu_when_a_group_is_new_or_began_again_then_it_waited_for_nothing_yet(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    cpu_us(reader, 100.0)
    desktop.write(f"{CGROUP}/machine.slice/cpu.pressure", psi(5_000_000))
    desktop.write(f"{CGROUP}/user.slice/cpu.pressure", psi(10))
    desktop.remove(f"{CGROUP}/init.scope")
    assert cpu_us(reader, 102.0) == 0
    wait(desktop, "machine.slice", 200_000)
    wait(desktop, "user.slice", 100_000)
    assert cpu_us(reader, 104.0) == 300_000


def test_cpu_when_psi_is_switched_off_meanwhile_then_derived(desktop: FakeHost) -> None:
    reader = PressureReader(desktop.root)
    assert reader.read(100.0).cpu_source.startswith("cpu.pressure of ")
    for group in START_US:
        desktop.write(f"{CGROUP}/{group}/cpu.pressure", "")
    assert reader.read(102.0).cpu_source == DERIVED


def test_cpu_when_a_groups_own_limit_holds_it_up_then_that_is_no_wait(desktop: FakeHost) -> None:
    group = f"{CGROUP}/system.slice/ssh.service"
    reader = PressureReader(desktop.root)
    desktop.write(f"{group}/cpu.max", "50000 100000")
    desktop.write(f"{group}/cpu.stat", "usage_usec 1\nnr_throttled 3")
    cpu_us(reader, 100.0)
    wait(desktop, "system.slice/ssh.service", 400_000)
    assert cpu_us(reader, 102.0) == 400_000
    wait(desktop, "system.slice/ssh.service", 400_000)
    desktop.write(f"{group}/cpu.stat", "usage_usec 1\nnr_throttled 9")
    assert cpu_us(reader, 104.0) == 400_000


def test_group_files_when_read_then_those_of_others_and_none_where_derived() -> None:
    reader = PressureReader(host("desktop"))
    assert not reader.group_files
    reader.read(1.0)
    assert len(reader.group_files) == len(START_US)
    assert all(path.is_file() for path in reader.group_files)
    derived = PressureReader(host("cgroup-v1"))
    derived.read(1.0)
    assert not derived.group_files


def hog(group: Path, policy: int) -> int:
    """A process that spins on the lowest of our CPUs, in this group."""
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        os.sched_setscheduler(0, policy, os.sched_param(0))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        while True:
            pass
    return child


@pytest.mark.slow
@pytest.mark.other_uid  # only root may make groups
def test_cpu_when_real_groups_wait_then_those_of_others_count_and_ours_do_not(tmp_path: Path) -> None:
    mounts = [mount for mount in parse_mounts(Path("/proc/self/mountinfo").read_text()) if not mount.legacy]
    if not mounts or not os.access(mounts[0].point, os.W_OK):
        pytest.skip("no cgroup v2 that we may write")
    top = Path(mounts[0].point) / f"ktaskd-test-{os.getpid()}"
    ours, others = top / "ours", top / "others"
    for group in (top, ours, others):
        group.mkdir()
    # A machine whose cgroups are the real ones below `top`; we are in one of them.
    root = make_machine(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/ours\n",
            "/proc/self/mountinfo": "31 24 0:27 / /cgroups rw - cgroup2 cgroup2 rw\n",
        },
    )
    (tmp_path / "cgroups").symlink_to(top)
    children: list[int] = []
    try:
        reader = PressureReader(root)
        assert cpu_us(reader, time.monotonic()) == 0
        children += [hog(ours, os.SCHED_IDLE) for _ in range(2)]
        while read_some(ours) < 100_000:
            time.sleep(0.01)
        mine = tuple(children)
        assert cpu_us(reader, time.monotonic(), mine) == 0
        children += [hog(others, os.SCHED_OTHER) for _ in range(2)]
        while cpu_us(reader, time.monotonic(), mine) < 100_000:
            time.sleep(0.01)
        assert reader.read(time.monotonic(), mine).cpu_source == "cpu.pressure of others"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for group in (ours, others, top):
            group.rmdir()


def read_some(group: Path) -> int:
    stall = parse_pressure((group / "cpu.pressure").read_text())
    assert stall is not None
    return stall.some_us
