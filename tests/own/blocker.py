"""Calls of an executor that begin and wait, and the jobs that run calls."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import ktask

from tests.own import things
from tests.support.real_daemon import PATIENCE_S, Daemon, until


class Blocker:
    """Calls that have begun and wait."""

    def __init__(self, executor: ktask.Executor, place: Path) -> None:
        self.executor, self.place, self.futures = executor, place, list[Future[int]]()

    def begin(self) -> int:
        """Begin one more call; return the process id of its worker."""
        begun = self.place / f"begun{len(self.futures)}"
        self.futures.append(self.executor.submit(things.begin_and_wait, begun, self.place / "go"))
        until(lambda: begun.exists() and bool(begun.read_text()), "the call has begun")
        return int(begun.read_text())

    def end(self) -> list[int]:
        """Let all calls end."""
        (self.place / "go").touch()
        return [future.result(PATIENCE_S) for future in self.futures]


def jobs_left(daemon: Daemon) -> list[ktask.Job]:
    with ktask.connect(daemon.place) as client:
        return [job for job in client.jobs() if not job.state.ended]
