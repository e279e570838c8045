"""Pressure files, and which cgroups are those of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.pressure.others import GROUPS_MAX, OtherGroups, parse_pressure
from ktaskd.host.pressure.reading import DERIVED, PressureReader
from ktaskd.model.observation import Stall
from tests.host.pressure.groups import CGROUP, START_US, psi
from tests.support.hosts import FakeHost


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
