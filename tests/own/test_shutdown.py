"""Executors end: cancelled calls, shutdown, and the end of the program."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import ktask
import pytest

from tests.own import things
from tests.own.blocker import Blocker, jobs_left
from tests.support.real_daemon import PATIENCE_S, Daemon, until


def test_cancel_when_not_begun_then_never_begun(blocker: Blocker, tmp_path: Path) -> None:
    blocker.begin()
    blocker.begin()
    future = blocker.executor.submit(lambda: (tmp_path / "ran").touch())
    assert future.cancel()
    assert not blocker.futures[0].cancel()
    blocker.end()
    with pytest.raises(CancelledError):
        future.result()
    assert blocker.executor.submit(things.square, 2).result() == 4
    assert not (tmp_path / "ran").exists()


def test_shutdown_when_waited_then_all_calls_are_done(daemon: Daemon) -> None:
    executor = ktask.Executor(2, target=daemon.place)
    futures = [executor.submit(things.square, i) for i in range(50)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    assert not jobs_left(daemon)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 5)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(pow, [2], [5])


def test_shutdown_when_it_cancels_then_begun_calls_end_and_the_others_are_cancelled(
    blocker: Blocker,
) -> None:
    blocker.begin()
    blocker.begin()
    waiting = [blocker.executor.submit(things.square, i) for i in range(10)]
    blocker.executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert len(blocker.end()) == 2
    blocker.executor.shutdown()


def test_shutdown_when_never_used_then_nothing() -> None:
    with ktask.Executor():
        pass


def test_program_when_it_ends_without_a_shutdown_then_its_calls_are_done(
    daemon: Daemon, tmp_path: Path
) -> None:
    code = (
        "import ktask, time\n"
        f"executor = ktask.Executor(2, target={str(daemon.place)!r})\n"
        "def call(i):\n"
        "    open(f'done{i}', 'w').close()\n"
        "for i in range(10):\n"
        "    executor.submit(call, i)\n"
        "print('ended', flush=True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=PATIENCE_S)
    # A relative path, since the workers take on the directory of the program.
    assert len(list(tmp_path.glob("done*"))) == 10


def test_program_when_killed_then_its_calls_end_and_nothing_is_left(daemon: Daemon, tmp_path: Path) -> None:
    code = (
        "import ktask, time, os, signal\n"
        f"executor = ktask.Executor(2, target={str(daemon.place)!r})\n"
        "def call():\n"
        "    open('begun', 'w').close()\n"
        "    time.sleep(1000)\n"
        "executor.submit(call)\n"
        "while not os.path.exists('begun'):\n"
        "    time.sleep(0.01)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, timeout=PATIENCE_S)
    until(lambda: not jobs_left(daemon), "its job has ended")
