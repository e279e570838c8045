"""Every fake machine, with the results of all readers.

Tests: ktaskd/host/power, ktaskd/host/pressure, ktaskd/host/topology.py
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ktaskd.host.cgroups.cgroup import read_own_limit
from ktaskd.host.power.supplies import read_power
from ktaskd.host.power.thermal import ThermalReader
from ktaskd.host.pressure.derived import DERIVED_IO, DERIVED_MEMORY
from ktaskd.host.pressure.reading import DERIVED, WHOLE_IO, WHOLE_MEMORY, PressureReader
from ktaskd.host.topology import read_topology
from ktaskd.model.observation import Heat, OwnLimit, Power, Stall, Thermal
from tests.support.hosts import HOSTS, host, host_names

COOL = Thermal(Heat.NOMINAL, "thermal_zone0 (acpitz)", 27.8, 119.0, throttles=5)
WARM = Thermal(Heat.NOMINAL, "thermal_zone3 (x86_pkg_temp)", 52.0, 95.0, throttles=5)
GROUPS = "cpu.pressure of init.scope, cron.service, ssh.service and 1 more"
IO = GROUPS.replace("cpu", "io")
MAINS = Power()
NONE = "which is impossible and not counted"
ONE_NODE = {0: set(range(8))}
FOUR = {0: {0, 1, 2, 3}}


@dataclass(frozen=True)
class Wanted:
    power: Power = MAINS
    thermal: Thermal = COOL
    source: str = GROUPS
    io_source: str = IO
    memory_source: str = WHOLE_MEMORY
    own: OwnLimit = field(default_factory=OwnLimit)
    nodes: dict[int, set[int]] = field(default_factory=lambda: ONE_NODE)


TABLE = {
    "desktop": Wanted(),
    "laptop-ac": Wanted(Power(battery_percent=76), WARM),
    "laptop-battery": Wanted(Power(on_battery=True, battery_percent=43), WARM),
    "laptop-weak-charger": Wanted(Power(battery_percent=61, draining=True), WARM),
    "laptop-hot": Wanted(
        Power(battery_percent=100),
        Thermal(Heat.MODERATE, "thermal_zone3 (x86_pkg_temp)", 96.0, 95.0, throttles=5),
    ),
    "laptop-usbc-charging": Wanted(Power(battery_percent=37), WARM),
    "laptop-usbc-gpu": Wanted(Power(on_battery=True, battery_percent=58), WARM),
    "desktop-usbc-gpu": Wanted(),
    "ups": Wanted(Power(battery_percent=64, draining=True)),
    "device-battery": Wanted(),
    "two-nodes": Wanted(nodes={0: {0, 1, 4, 5}, 1: {2, 3, 6, 7}}),
    "cpuless-node": Wanted(nodes={0: {0, 1, 2, 3}, 2: set()}),
    "offline-cpus": Wanted(nodes={0: {0, 1, 3}, 1: {6}}),
    "container-quota": Wanted(thermal=Thermal(), source=DERIVED, io_source=WHOLE_IO, own=OwnLimit(1.5, 12)),
    "cgroup-v1": Wanted(
        thermal=Thermal(), source=DERIVED, io_source="", memory_source="", own=OwnLimit(2.0, 3), nodes=FOUR
    ),
    "hybrid": Wanted(thermal=Thermal(), own=OwnLimit(2.0, 3), nodes=FOUR),
    "no-psi": Wanted(
        thermal=Thermal(), source=DERIVED, io_source=DERIVED_IO, memory_source=DERIVED_MEMORY, nodes=FOUR
    ),
    "desktop-cold-zone": Wanted(
        thermal=replace(
            COOL, doubted=(f"thermal_zone1 (acpitz) has a critical trip point at 20.8 °C, {NONE}",)
        ),
    ),
    "laptop-worn-battery": Wanted(
        Power(doubted=('BAT0 is not counted: it stays at 0 % on external power ("Not charging")',)), WARM
    ),
    "laptop-two-batteries": Wanted(Power(battery_percent=49.5), WARM),
}


def test_machines_when_listed_then_each_has_a_row_here_and_in_the_readme() -> None:
    readme = (HOSTS / "README.md").read_text()
    assert host_names() == sorted(TABLE)
    assert all(f"\n| {name} | " in readme for name in TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_machine_when_read_then_as_its_row_says(name: str) -> None:
    root, wanted = host(name), TABLE[name]
    pressure = PressureReader(root).read(100.0)
    topology = read_topology(root, frozenset(range(64)))
    assert read_power(root) == wanted.power
    assert ThermalReader(root).read(0.0) == wanted.thermal
    assert (pressure.cpu, pressure.cpu_source) == (Stall(0), wanted.source)
    assert (pressure.io, pressure.io_source) == (Stall(0) if wanted.io_source else None, wanted.io_source)
    memory = {WHOLE_MEMORY: Stall(40_000, 10_000), DERIVED_MEMORY: Stall(0), "": None}
    assert (pressure.memory, pressure.memory_source) == (memory[wanted.memory_source], wanted.memory_source)
    assert read_own_limit(root) == wanted.own
    assert {node.nid: set(node.cpus) for node in topology.nodes} == wanted.nodes
