"""What others wait for: their cgroups' PSI, or the run queue where there are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.cgroups.cgroup import parse_mounts
from ktaskd.host.pressure.cpustat import CpuStat, OwnWork, parse_stat, share_waiting, time_full
from ktaskd.host.pressure.others import GROUPS_MAX, OtherGroups, parse_pressure
from ktaskd.host.pressure.reading import DERIVED, WHOLE_IO, PressureReader
from ktaskd.host.root import HostRoot
from ktaskd.model.observation import Stall
from tests.support.hosts import FakeHost, host
from tests.support.machine import make_machine

CGROUP = "/sys/fs/cgroup"
START_US = {"init.scope": 1, "system.slice/cron.service": 3, "system.slice/ssh.service": 5, "user.slice": 6}
"""Totals of the groups of others in the fake machines, in seconds."""


@pytest.fixture
def desktop(tmp_path: Path) -> FakeHost:
    return FakeHost.copy("desktop", tmp_path / "host")


@pytest.fixture
def bare(tmp_path: Path) -> FakeHost:
    """Four CPUs, and no groups of others."""
    return FakeHost.copy("cgroup-v1", tmp_path / "host")


def psi(total: int) -> str:
    return f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=7"


def wait(machine: FakeHost, group: str, us: int) -> None:
    """Others in this group waited for so much longer."""
    path = f"{CGROUP}/{group}/cpu.pressure"
    before = parse_pressure(machine.root.at(path).read_text())
    assert before is not None
    machine.write(path, psi(before.some_us + us))


def cpu_us(reader: PressureReader, now_s: float, own: tuple[int, ...] = ()) -> int:
    stall = reader.read(now_s, own).cpu
    assert stall is not None
    return stall.some_us


# -- PSI ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stall"),
    [
        (psi(12), Stall(12, 7)),
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n", Stall(5)),
        ("full avg10=0.00 total=5\n", None),
        ("some total=x\n", None),
        ("some total=-5\n", None),
        ("some total=" + "9" * 5000, None),
        ("", None),
        ("Operation not supported", None),
    ],
)
def test_psi_when_parsed_then_its_totals(text: str, stall: Stall | None) -> None:
    assert parse_pressure(text) == stall


@given(st.text() | st.text(alphabet="somefulltotal= 0123456789.\n"))
def test_psi_when_it_is_any_text_then_an_answer(text: str) -> None:
    stall = parse_pressure(text)
    assert stall is None or stall.some_us >= 0


def test_pressure_when_the_real_machine_is_read_then_as_the_kernel_counts() -> None:
    read = PressureReader(HostRoot()).read(time.monotonic())
    again = parse_pressure(Path("/proc/pressure/memory").read_text())
    assert read.memory is not None
    assert again is not None
    assert read.memory.some_us <= again.some_us
    assert read.cpu == read.io == Stall(0)
    assert read.cpu_source
    assert read.io_source


# -- groups of others -----------------------------------------------------------------


def test_groups_when_found_then_all_but_ours_and_those_it_is_in(desktop: FakeHost) -> None:
    found = OtherGroups(desktop.root).find(["self"])
    top = desktop.root.at(CGROUP)
    assert [str(path.relative_to(top)) for path in found] == sorted(START_US)


def test_groups_when_workers_are_elsewhere_then_theirs_are_left_out_as_well(desktop: FakeHost) -> None:
    for group in ("ktaskd.slice/helpers.service", "ktaskd.slice/other.service"):
        desktop.write(f"{CGROUP}/{group}/cpu.pressure", psi(0))
    desktop.write("/proc/77/cgroup", "0::/ktaskd.slice/helpers.service")
    found = OtherGroups(desktop.root).find(["self", 77])
    top = desktop.root.at(CGROUP)
    assert [str(path.relative_to(top)) for path in found] == sorted([*START_US, "ktaskd.slice/other.service"])


def test_groups_when_below_ours_then_ours(desktop: FakeHost) -> None:
    for group in ("helpers", "more"):
        desktop.write(f"{CGROUP}/system.slice/ktaskd.service/{group}/cpu.pressure", psi(0))
    desktop.write("/proc/77/cgroup", "0::/system.slice/ktaskd.service/helpers")
    found = OtherGroups(desktop.root).find(["self", 77])
    assert len(found) == len(START_US)


@pytest.mark.parametrize("path", ["/", "", "relative", "/../other", "/a/../b"])
def test_groups_when_ours_is_the_top_or_unknown_then_none(desktop: FakeHost, path: str) -> None:
    desktop.write("/proc/self/cgroup", f"0::{path}")
    assert OtherGroups(desktop.root).find(["self"]) == []
    assert PressureReader(desktop.root).read(1.0).cpu_source == DERIVED


def test_groups_when_strangers_live_in_ours_then_none(desktop: FakeHost) -> None:
    # As in a login session, where the user's own programs are in the same scope.
    desktop.write("/proc/self/stat", "10 (ktaskd) R 1 10 10 0 -1 0 0 0 0 0 5 5 0 0")
    procs = f"{CGROUP}/system.slice/ktaskd.service/cgroup.procs"
    desktop.write(procs, "10\n11")
    groups = OtherGroups(desktop.root)
    assert len(groups.find(["self", 11])) == len(START_US)
    desktop.write(procs, "10\n11\n12")
    assert groups.find(["self", 11]) == []


def test_groups_when_there_are_many_then_not_all_are_read(desktop: FakeHost) -> None:
    for number in range(GROUPS_MAX):
        desktop.write(f"{CGROUP}/system.slice/s{number}.service/cpu.pressure", psi(0))
    assert len(OtherGroups(desktop.root).find(["self"])) == GROUPS_MAX


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


def test_cpu_when_many_wait_at_one_time_then_no_more_than_the_time_that_passed(desktop: FakeHost) -> None:
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
    # A machine whose cgroups are the real ones below `top`, and where we live in one of them.
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


# -- the run queue ----------------------------------------------------------------------


def run_for(machine: FakeHost, idle_ticks: tuple[int, ...], running: int) -> None:
    """/proc/stat with so much idle time of each CPU, and so many tasks that run or wait."""
    lines = [f"cpu{number} 0 0 0 {ticks} 0 0 0 0 0 0" for number, ticks in enumerate(idle_ticks)]
    machine.write("/proc/stat", "\n".join(["cpu 0 0 0 0 0", *lines, f"procs_running {running}"]))


def own(machine: FakeHost, pid: int, state: str, ticks: int) -> None:
    machine.write(f"/proc/{pid}/stat", f"{pid} (a) R 9 (b) {state} 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0")


def test_cpu_when_more_of_others_run_than_there_are_cpus_then_all_the_time(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 3)
    assert cpu_us(reader, 100.0) == 0
    assert cpu_us(reader, 102.0) == 2_000_000
    assert reader.read(102.0).cpu_source == DERIVED


def test_cpu_when_only_ours_wait_then_nothing(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 3)
    own(bare, 71, "R", 0)
    own(bare, 72, "R", 0)
    cpu_us(reader, 100.0, (71, 72))
    own(bare, 71, "R", 100)
    assert cpu_us(reader, 102.0, (71, 72)) == 0


def test_cpu_when_ours_run_where_others_would_then_as_long_as_they_did(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 3)
    own(bare, 71, "R", 0)
    cpu_us(reader, 100.0, (71,))
    own(bare, 71, "R", 20)  # 0.2 s: a tenth of one CPU
    assert cpu_us(reader, 102.0, (71,)) == pytest.approx(200_000, abs=1)


def test_cpu_when_somebody_runs_who_hardly_ever_does_then_no_longer_than_it_ran(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 3)
    for pid in (71, 72):
        own(bare, pid, "R", 0)
    cpu_us(reader, 100.0, (71, 72))
    for pid in (71, 72):  # ours had 1.98 s of each CPU; somebody wakes up right now
        own(bare, pid, "R", 198)
    assert cpu_us(reader, 102.0, (71, 72)) == pytest.approx(40_000, abs=1)


def test_cpu_when_a_cpu_was_idle_then_nobody_waited_so_long(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 1)
    cpu_us(reader, 100.0)
    run_for(bare, (10, 150), 9)
    assert cpu_us(reader, 102.0) == pytest.approx(500_000, abs=1)


def test_cpu_when_nobody_looked_for_long_then_nothing_is_made_up(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 9)
    cpu_us(reader, 100.0)
    assert cpu_us(reader, 4000.0) == 0
    assert cpu_us(reader, 4002.0) == 2_000_000


def test_cpu_when_there_is_no_stat_then_no_signal(bare: FakeHost) -> None:
    bare.remove("/proc/stat")
    read = PressureReader(bare.root).read(1.0)
    assert (read.cpu, read.cpu_source) == (None, "")


def test_cpu_when_really_derived_then_hogs_of_others_are_seen_and_ours_are_not(tmp_path: Path) -> None:
    # The real /proc without cgroups: what is seen is worked out from the run queue.
    (tmp_path / "proc").symlink_to("/proc")
    count = 2 * len(os.sched_getaffinity(0)) + 1
    hogs = [
        subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile 1: pass"], stdout=-1)
        for _ in range(count)
    ]
    try:
        for hog in hogs:
            assert hog.stdout is not None
            hog.stdout.readline()
        pids = [hog.pid for hog in hogs]
        root = HostRoot(tmp_path)
        work = OwnWork.read(root, pids)
        assert work.runnable == count
        strangers = PressureReader(root)
        first = cpu_us(strangers, time.monotonic())
        while not cpu_us(strangers, time.monotonic()) > first:
            pass
    finally:
        for hog in hogs:
            hog.kill()
            hog.communicate()


def test_own_work_when_of_this_process_then_it_runs_and_its_time_grows() -> None:
    before = OwnWork.read(HostRoot(), ["self", 1 << 30])
    while (after := OwnWork.read(HostRoot(), ["self"])).used_s["self"] == before.used_s["self"]:
        pass
    assert (before.runnable, list(before.used_s)) == (1, ["self"])
    assert after.cpus_since(before, 1.0) > 0
    assert after.cpus_since(OwnWork(), 1.0) == 0


CPUS = st.integers(1, 64)


@given(st.integers(0, 200), st.floats(0, 100), CPUS)
def test_share_when_there_are_more_of_others_or_ours_use_more_then_never_less(
    others: int, used: float, cpus: int
) -> None:
    share = share_waiting(others, used, cpus)
    assert 0.0 <= share <= share_waiting(others + 1, used, cpus) <= 1.0
    assert share <= share_waiting(others, used + 1, cpus) <= 1.0


@given(CPUS)
def test_share_when_others_have_a_cpu_each_and_ours_none_then_nobody_waits(cpus: int) -> None:
    assert share_waiting(cpus, 0.0, cpus) == 0.0
    assert share_waiting(0, 99.0, cpus) == 0.0


@given(st.text() | st.text(alphabet="cpu0123456789 procs_running\n"))
def test_stat_when_it_is_any_text_then_an_answer(text: str) -> None:
    stat = parse_stat(text)
    assert stat is None or stat.cpus > 0


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e9), min_size=1), st.floats(0, 10))
def test_time_full_when_cpus_come_and_go_then_within_the_time(idle: dict[str, float], passed: float) -> None:
    assert 0.0 <= time_full(CpuStat(1, {"cpu0": 5.0}), CpuStat(1, idle), passed) <= passed
