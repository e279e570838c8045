"""How long others waited for a CPU, derived from the run queue without cgroups."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.pressure.cpustat import CpuStat, OwnWork, fraction_waiting, parse_stat, time_full
from ktaskd.host.pressure.reading import DERIVED, PressureReader
from ktaskd.host.root import HostRoot
from tests.host.pressure.groups import cpu_us
from tests.support.hosts import FakeHost


def run_for(machine: FakeHost, idle_ticks: tuple[int, ...], running: int) -> None:
    """Write /proc/stat with this idle time of each CPU, and this number of runnable tasks."""
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


def test_cpu_when_a_task_hardly_ever_runs_then_it_waited_no_longer_than_it_ran(bare: FakeHost) -> None:
    reader = PressureReader(bare.root)
    run_for(bare, (0, 0), 3)
    for pid in (71, 72):
        own(bare, pid, "R", 0)
    cpu_us(reader, 100.0, (71, 72))
    for pid in (71, 72):  # ours had 1.98 s of each CPU; another task wakes up right now
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
    # The real /proc without cgroups, so that the run queue is used.
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
    share = fraction_waiting(others, used, cpus)
    assert 0.0 <= share <= fraction_waiting(others + 1, used, cpus) <= 1.0
    assert share <= fraction_waiting(others, used + 1, cpus) <= 1.0


@given(CPUS)
def test_share_when_others_have_a_cpu_each_and_ours_none_then_nobody_waits(cpus: int) -> None:
    assert fraction_waiting(cpus, 0.0, cpus) == 0.0
    assert fraction_waiting(0, 99.0, cpus) == 0.0


@given(st.text() | st.text(alphabet="cpu0123456789 procs_running\n"))
def test_stat_when_it_is_any_text_then_an_answer(text: str) -> None:
    stat = parse_stat(text)
    assert stat is None or stat.cpus > 0


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e9), min_size=1), st.floats(0, 10))
def test_time_full_when_cpus_come_and_go_then_within_the_time(idle: dict[str, float], passed: float) -> None:
    assert 0.0 <= time_full(CpuStat(1, {"cpu0": 5.0}), CpuStat(1, idle), passed) <= passed
