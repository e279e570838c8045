"""The time of the last input at a terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ktaskd.host.people.terminals import AHEAD_S, read_last_input
from ktaskd.host.root import HostRoot

NOW_S = 1_800_000_000.0


def terminals(top: Path, typed: dict[str, float]) -> HostRoot:
    for name, at_s in typed.items():
        path = top / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at_s, 0))
    return HostRoot(top)


@pytest.mark.parametrize(
    ("typed", "last_s"),
    [
        ({}, None),
        ({"tty1": NOW_S - 90}, NOW_S - 90),
        ({"tty1": NOW_S - 90, "pts/0": NOW_S - 5, "pts/12": NOW_S - 7}, NOW_S - 5),
        ({"tty": NOW_S, "ptmx": NOW_S, "pts/ptmx": NOW_S, "ttyS0": NOW_S}, None),
        ({"tty1": NOW_S - 90, "pts/0": NOW_S + AHEAD_S + 1}, NOW_S - 90),
    ],
)
def test_input_when_read_then_the_last_of_any_terminal(
    tmp_path: Path, typed: dict[str, float], last_s: float | None
) -> None:
    assert read_last_input(terminals(tmp_path, typed), NOW_S) == last_s


def test_input_when_a_real_terminal_is_read_then_its_time(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    name = Path(os.ttyname(follower))
    machine = tmp_path / "dev" / "pts"
    machine.mkdir(parents=True)
    (machine / name.name).symlink_to(name)
    at_s = os.stat(name).st_atime
    assert read_last_input(HostRoot(tmp_path), at_s) == at_s
    os.close(follower)
    os.close(leader)
