"""The use of each CPU by our workers and by others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.pressure.cpuuse import CpuUse, CpuUseReader, OwnProcess, use_of
from tests.support.hosts import FakeHost


def write_idle(machine: FakeHost, *ticks: int) -> None:
    lines = [f"cpu{number} 0 0 0 {idle} 0 0 0 0 0 0" for number, idle in enumerate(ticks)]
    machine.write("/proc/stat", "\n".join(["cpu 0 0 0 0 0", *lines, "procs_running 1"]))


def test_use_when_workers_and_others_ran_then_each_at_its_cpu(bare: FakeHost) -> None:
    used = {71: 5.0, 72: 1.0}
    own = [OwnProcess(71, False, (0,)), OwnProcess(72, True, (0, 1, 2))]
    reader = CpuUseReader(bare.root, lambda pid: used[pid])
    # The lead ran on CPU 1 last; its name has what a careless reader takes for fields.
    bare.write("/proc/72/stat", "72 (a) R 9 (b) R " + "0 " * 35 + "1 0 0")
    write_idle(bare, 0, 0, 0)
    assert reader.read(10.0, lambda: own) == ()
    used.update({71: 6.5, 72: 2.0})
    write_idle(bare, 20, 40, 200)
    found = reader.read(12.0, lambda: own)
    assert found == (
        CpuUse(0, 0.75, 0.0, pytest.approx(0.15)),  # type: ignore[arg-type]
        CpuUse(1, 0.0, 0.5, pytest.approx(0.3)),  # type: ignore[arg-type]
        CpuUse(2, 0.0, 0.0, 0.0),
    )
    assert reader.read(12.1, lambda: pytest.fail("it was read a moment ago")) == found
    assert reader.read(60.0, lambda: own) == ()


def test_use_when_there_is_no_signal_then_none(bare: FakeHost) -> None:
    bare.remove("/proc/stat")
    reader = CpuUseReader(bare.root, lambda _: 0.0)
    assert reader.read(1.0, list) == reader.read(2.0, list) == ()


@given(*[st.floats(-1, 3)] * 3)
def test_use_when_split_then_parts_of_one_cpu(busy: float, helpers: float, leads: float) -> None:
    use = use_of(3, busy, helpers, leads)
    assert min(use.helpers, use.leads, use.others) >= 0
    assert use.helpers + use.leads + use.others <= 1 + 1e-9
