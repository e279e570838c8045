"""Calls that only sleep delay nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import ktask
import psutil
import pytest

from tests.own import things
from tests.support.real_daemon import PATIENCE_S, Daemon, running, until

CPUS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def own() -> Iterator[Daemon]:
    """A daemon of this user."""
    with (
        tempfile.TemporaryDirectory(prefix="ktask-") as path,
        running(Path(path) / "run", "--own-user") as made,
    ):
        yield made


@pytest.fixture
def paused(own: Daemon) -> Iterator[None]:
    """A daemon without helpers, as on battery."""
    with ktask.connect(own.place) as client:
        client.set_mode("paused")
        yield
        client.set_mode("auto")


class Sleepers:
    """Programs with one call each, which only sleeps until it is released."""

    def __init__(self, own: Daemon, place: Path, count: int) -> None:
        self._go = place / "go"
        self._executors = [ktask.Executor(1, target=own.place) for _ in range(count)]
        self.futures: list[Future[int]] = []
        for i, executor in enumerate(self._executors):
            begun = place / f"begun{i}"
            self.futures.append(executor.submit(things.begin_and_wait, begun, self._go))
            until(begun.exists, "the call has begun")

    def let_go(self) -> None:
        self._go.touch()
        for future in self.futures:
            future.result(PATIENCE_S)
        for executor in self._executors:
            executor.shutdown()


@pytest.fixture
def sleepers(own: Daemon, tmp_path: Path) -> Iterator[Sleepers]:
    made = Sleepers(own, tmp_path, CPUS)
    yield made
    made.let_go()


@pytest.mark.usefixtures("sleepers", "paused")
def test_waited_job_when_each_lead_sleeps_in_a_call_and_no_helper_may_run_then_it_goes_on(
    own: Daemon, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"some data")
    with ktask.connect(own.place) as client:
        assert client.run("file.crc32", data=path).result is not None


@pytest.mark.usefixtures("sleepers")
def test_call_when_each_lead_sleeps_in_another_programs_then_done(own: Daemon) -> None:
    with ktask.Executor(1, target=own.place) as executor:
        assert executor.submit(things.square, 7).result(PATIENCE_S) == 49


def test_call_when_its_lead_was_stopped_before_then_done(own: Daemon) -> None:
    processes = psutil.Process(own.process.pid).children(recursive=True)
    for process in processes:
        if process.name() == "leads" and not process.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
    with ktask.Executor(1, target=own.place) as executor:
        assert executor.submit(things.square, 7).result(PATIENCE_S) == 49
