"""On a terminal, the progress bar damages no line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest

from tests.client.screen import on_terminal, seen
from tests.support.real_daemon import Daemon, running, write_config

SIZE = 96 << 20


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose detached jobs run even on a busy machine."""
    place = tmp_path_factory.mktemp("terminal")
    config = write_config(place / "c", workers={"starvation_s": 0.2})
    with running(place / "run", "--own-user", "--config", config) as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths = [tmp_path_factory.mktemp("files") / name for name in "abcdef"]
    for path in paths:
        path.touch()
        os.truncate(path, SIZE)
    return paths


def test_screen_when_written_to_then_as_a_terminal_shows_it() -> None:
    assert seen("bar 10%\r\x1b[Kline\r\nbar 20%\r\x1b[K", 80) == ["line", ""]
    assert seen("bar 10%line\r\n", 80) == ["bar 10%line", ""]
    assert seen("abcdef\r\x1b[Kx", 4) == ["abcd", "x"]


@pytest.mark.parametrize("columns", [200, 40, 12])
def test_watch_when_results_come_between_then_each_line_is_whole(
    daemon: Daemon, files: list[Path], columns: int
) -> None:
    with ktask.connect(daemon.place) as client:
        job = client.submit("file.sha256", items=files, max_threads=1)
        status, written = on_terminal(daemon.place, "watch", job.id, columns=columns)
        found = (client.job(job).result or {})["items"]
    assert status == 0
    lines = [line for line in seen(written, 1000) if line]
    states = [f"{job.id} {state}" for state in ("QUEUED", "RUNNING", "COMBINING", "SUCCEEDED")]
    results = [f"{i}: bytes={SIZE} sha256={one['sha256']}" for i, one in enumerate(found)]
    assert [line for line in lines if line not in states and line not in results] == []
    assert [line for line in lines if line in results] == results
    bars = [
        part.partition("\r")[0] for part in written.split("\r\x1b[K") if part.startswith("file.sha"[:columns])
    ]
    assert bars
    # A bar wider than the terminal would leave characters that cannot be erased.
    assert max(map(len, bars)) < columns


def test_run_when_a_warning_and_results_come_then_each_line_is_whole(
    daemon: Daemon, files: list[Path]
) -> None:
    """More items than one job takes: a bar, results and a line of success for each job."""
    status, written = on_terminal(daemon.place, "run", "file.sha256", "--items", *files, columns=60)
    assert status == 0
    lines = [line for line in seen(written, 1000) if line]
    assert [line.partition(": ")[0] for line in lines[:-1]] == [str(path) for path in files]
    assert lines[-1].startswith("file.sha256 done ")


def test_bar_when_standard_output_is_a_file_then_as_wide_as_its_own_terminal(
    daemon: Daemon, files: list[Path], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as out:
        words = ("run", "file.sha256", "--items", *files)
        status, written = on_terminal(daemon.place, *words, columns=30, stdout=out)
    assert status == 0
    bars = [part.partition("\r")[0] for part in written.split("\r\x1b[K") if "%" in part]
    assert bars
    assert max(map(len, bars)) < 30
    assert len((tmp_path / "out").read_text().splitlines()) == len(files)


def test_watch_when_the_job_fails_then_the_error_has_a_line_of_its_own(daemon: Daemon) -> None:
    with ktask.connect(daemon.place) as client:
        job = client.submit("selftest.spin", arg={"ms": 50}, ranges=[(0, 1000)])
        client.cancel(job, wait=False)
        status, written = on_terminal(daemon.place, "watch", job.id, columns=80)
    assert status == 1
    lines = [line for line in seen(written, 1000) if line]
    assert lines[-1].startswith("ktask: ")
    assert all(line.startswith(f"{job.id} ") for line in lines[:-1])
