"""The client waits for a named daemon that is just starting, and for no other."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import ktask
import pytest
from ktask.link import locate, starting

from tests.support.real_daemon import KTASKD, until

START = "import pathlib, sys, time; sys.stdin.read()"
"""A process that waits for the end of its standard input."""


@pytest.fixture
def directory(reachable_dir: Path) -> Path:
    return reachable_dir / "run"


@pytest.mark.slow
def test_connect_when_the_daemon_was_started_a_moment_ago_then_waited_for(directory: Path) -> None:
    log = directory.with_suffix(".log")
    with (
        log.open("w") as out,
        subprocess.Popen(
            [KTASKD, "--runtime-dir", directory], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as daemon,
    ):
        try:
            with ktask.connect(directory) as client:
                assert client.status().pid == daemon.pid
        finally:
            daemon.terminate()
    assert daemon.returncode == 0, log.read_text()


def test_connect_when_the_daemon_cannot_start_then_given_up_when_it_has_ended(directory: Path) -> None:
    command: list[str | Path] = [KTASKD, "--runtime-dir", directory, "--config", directory]
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL),
        pytest.raises(ktask.DaemonNotFound, match="No such file"),
    ):
        ktask.connect(directory)


def test_connect_when_no_daemon_is_starting_then_given_up_after_a_tenth_of_a_second(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(ktask.DaemonNotFound):
        ktask.connect(directory)
    assert 0.0 < sum(waits) <= 0.11


def test_connect_when_the_daemon_is_being_executed_then_looked_for_again(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During its exec a process has no command line."""
    found = iter((False, False, True, True, False, True))
    monkeypatch.setattr(starting, "is_starting", lambda _: next(found, False))
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(ktask.DaemonNotFound):
        ktask.connect(directory)
    assert len(waits) > 6, "each sighting of the process starts the count of checks again"


def test_starting_when_the_process_is_old_or_of_another_directory_then_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = locate.endpoint_of(directory)
    words = [sys.executable, "-c", START, "ktaskd", "--runtime-dir", directory.name]
    with subprocess.Popen(words, cwd=directory.parent, stdin=subprocess.PIPE) as process:
        until(lambda: starting.is_starting(place), "it is seen")
        assert not starting.is_starting(locate.endpoint_of(directory.parent / "other"))
        monkeypatch.setattr(starting, "STARTING_S", 0.0)
        assert not starting.is_starting(place)
        monkeypatch.undo()
        process.communicate()
    assert not starting.is_starting(place)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["/usr/bin/ktaskd", "--runtime-dir", "/x"], "/x"),
        (["python3", "-m", "ktaskd", "--selftest", "--runtime-dir=/x"], "/x"),
        (["ktaskd", "--runtime-dir"], ""),
        (["ktaskd", "--selftest"], None),
        (["grep", "--", "--runtime-dir", "ktaskd"], None),
        ([], None),
    ],
)
def test_runtime_dir_when_a_command_line_is_read_then_only_a_daemons(
    words: list[str], found: str | None
) -> None:
    assert starting.runtime_dir_of(words) == found
