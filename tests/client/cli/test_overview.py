"""The status fits one screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ktask import convert
from ktask.cli.overview import describe_overview
from ktask.status import Node, NodeAllowance, Pool, Reading, Status

from tests.client.fake_messages import a_status


@pytest.fixture
def status(tmp_path: Path) -> Status:
    return convert.status(a_status(Path("/run/ktaskd")))


def large(status: Status, nodes: int, cpus: int) -> Status:
    """The same daemon on a larger machine."""
    worker, each = status.pools[0].workers[0], cpus // nodes
    ids = range(nodes)
    return replace(
        status,
        nodes=tuple(Node(nid, f"{nid * each}-{nid * each + each - 1}", 1 << 38) for nid in ids),
        pools=tuple(Pool(f"node{nid}", "HELPER", nid, 1, (worker,) * each, 0) for nid in ids),
        allowance=replace(
            status.allowance, nodes=tuple(NodeAllowance(nid, helpers=each, busy=0) for nid in ids)
        ),
        readings=tuple(Reading(f"reading {i}", "12.5 %", "somewhere") for i in range(12)),
    )


def test_overview_when_shown_then_what_people_ask_for(status: Status) -> None:
    shown = describe_overview(status)
    for words in (
        "ktaskd 0.1.0, pid ",
        "mode: auto\n",
        "allowance: fewer helpers\n",
        "because: ON_BATTERY: on battery (30 %)",
        "node 0: CPUs 0-1, 8.0 GiB; 1 helper (1 idle, 1 raised), 2 may run",
        "helpers give way by idle cgroup; a starved one is raised by autogroup nice 0",
        "battery: 30 %",
        "missing: systemd-python: not installed",
        "missing: cpu.idle",
        "status -v",
    ):
        assert words in shown


@pytest.mark.parametrize(("nodes", "cpus"), [(1, 2), (1, 16), (2, 128), (8, 256), (64, 1024)])
def test_overview_when_the_machine_is_large_then_one_screen(status: Status, nodes: int, cpus: int) -> None:
    lines = describe_overview(large(status, nodes, cpus)).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def test_overview_when_much_is_missing_then_only_counted(status: Status) -> None:
    missing = tuple(f"thing {i}: {'is not there ' * 8}" for i in range(30))
    lines = describe_overview(replace(large(status, 2, 4), missing=missing)).splitlines()
    assert len(lines) <= 24
    assert "27 more missing" in lines[-1]


def test_overview_when_a_helper_is_not_set_up_yet_then_not_counted_as_one_that_does_not_give_way(
    status: Status,
) -> None:
    starting = replace(status.pools[0].workers[0], state="STARTING", gives_way_by="")
    pool = replace(status.pools[0], workers=(*status.pools[0].workers, starting))
    assert "give way by idle cgroup;" in describe_overview(replace(status, pools=(pool,)))


def test_overview_when_a_reading_says_nothing_then_left_out(status: Status) -> None:
    readings = (
        Reading("battery", "no signal", "x"),
        Reading("power", "not on battery", "x"),
        Reading("io", "not measured yet", "x"),
    )
    shown = describe_overview(replace(status, readings=readings))
    assert "power: not on battery" in shown
    assert "no signal" not in shown
    assert "not measured" not in shown


def test_overview_when_a_text_has_control_characters_then_none_reaches_the_terminal(status: Status) -> None:
    shown = describe_overview(replace(status, missing=("a\x1b[2Jb",)))
    assert "\x1b" not in shown
