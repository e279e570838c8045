"""Cgroups of a fake machine and how long their tasks have waited."""

from __future__ import annotations

from ktaskd.host.pressure.others import parse_pressure
from ktaskd.host.pressure.reading import PressureReader
from tests.support.hosts import FakeHost

CGROUP = "/sys/fs/cgroup"
START_US = {"init.scope": 1, "system.slice/cron.service": 3, "system.slice/ssh.service": 5, "user.slice": 6}
"""Totals of the groups of others in the fake machines, in seconds."""


def psi(total: int) -> str:
    return f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=7"


def wait(machine: FakeHost, group: str, us: int) -> None:
    """Let the tasks of this group have waited for this much longer."""
    path = f"{CGROUP}/{group}/cpu.pressure"
    before = parse_pressure(machine.root.at(path).read_text())
    assert before is not None
    machine.write(path, psi(before.some_us + us))


def cpu_us(reader: PressureReader, now_s: float, own: tuple[int, ...] = ()) -> int:
    stall = reader.read(now_s, own).cpu
    assert stall is not None
    return stall.some_us
