"""Patience is measured by what the machine gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import real_daemon
from tests.support.real_daemon import BUSY_PATIENCE_S, PATIENCE_S, idle_s, until


class Clock:
    """A machine whose time passes only while somebody sleeps."""

    def __init__(self, idle_share: float) -> None:
        self.now_s, self.idle_share = 1000.0, idle_share

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, _: float) -> None:
        self.now_s += 1.0

    def idle_s(self) -> float:
        return self.idle_share * self.now_s


@pytest.mark.parametrize(
    ("idle_share", "patience_s"), [(1.5, PATIENCE_S), (0.2, PATIENCE_S), (0.0, BUSY_PATIENCE_S)]
)
def test_until_when_it_never_happens_then_given_up_after_what_the_machine_gave(
    monkeypatch: pytest.MonkeyPatch, idle_share: float, patience_s: float
) -> None:
    clock = Clock(idle_share)
    monkeypatch.setattr(real_daemon, "time", clock)
    monkeypatch.setattr(real_daemon, "idle_s", clock.idle_s)
    with pytest.raises(AssertionError, match="never happened: a wonder"):
        until(lambda: False, "a wonder")
    assert clock.now_s - 1000.0 == patience_s


def test_until_when_it_happens_at_last_on_a_busy_machine_then_well(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.0)
    monkeypatch.setattr(real_daemon, "time", clock)
    monkeypatch.setattr(real_daemon, "idle_s", clock.idle_s)
    until(lambda: clock.now_s > 1000.0 + 2 * PATIENCE_S, "the helper's turn")


@pytest.fixture
def stat(tmp_path: Path) -> Path:
    path = tmp_path / "stat"
    path.write_text("cpu  1 2 3 400 50 6 7 8 9 10\ncpu0 1 2 3 400 50 6 7 8 9 10\n")
    return path


def test_idle_when_read_then_of_all_cpus_with_what_waited_for_disks(stat: Path) -> None:
    assert idle_s(stat) == pytest.approx(4.5)
    assert idle_s() > 0
