"""Commands that only read start no daemon; the others do.

Tests: client/ktask/cli/main.py
"""

from __future__ import annotations

from pathlib import Path

import ktask
import pytest

from tests.client.command import ktask_command
from tests.client.processes import pids


@pytest.mark.parametrize(
    "words",
    [("status",), ("jobs",), ("show", "x"), ("explain", "x"), ("watch", "x"), ("cancel", "x"), ("mode",)],
)
def test_command_when_it_only_looks_then_it_starts_nothing_and_exits_3(
    nowhere: Path, fake_python: Path, words: tuple[str, ...]
) -> None:
    status, out, err = ktask_command(*words)
    assert (status, out) == (3, "")
    assert err.startswith("ktask: daemon: none answers")
    assert "`ktask run`" in err
    assert not pids(fake_python)
    assert not (nowhere / "ktaskd").exists()


def test_command_when_it_only_looks_then_it_finds_the_one_that_is_there(
    nowhere: Path, fake_python: Path
) -> None:
    assert ktask_command("functions")[0] == 0  # starts one
    assert ktask_command("status")[0] == 0
    assert len(pids(fake_python)) == 1


def test_command_when_it_sets_a_mode_then_a_daemon_is_started_that_keeps_it(
    nowhere: Path, fake_python: Path
) -> None:
    ktask_command("mode", "paused")
    assert len(pids(fake_python)) == 1


def test_connect_when_it_is_not_to_start_one_then_an_error(nowhere: Path, fake_python: Path) -> None:
    with pytest.raises(ktask.DaemonNotFound, match="none answers"):
        ktask.connect(start=False)
    assert not pids(fake_python)
