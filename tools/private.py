"""A private daemon, for as long as a block of code runs."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ktask.link.locate import endpoint_of, why_silent

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
"""Longer than the daemon takes to undo running jobs and to end its workers."""

_ORPHAN_EXIT_S = 30
"""The daemon exits after this long without clients, so that it ends even if its starter was killed."""

_POLL_MS = 5
_LOG_TAIL_BYTES = 2000
_DIRECTORY_BYTES_MAX = 60
"""A socket's path has at most 107 bytes. Source: unix(7)"""

_NOT_INHERITED = frozenset(
    {"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
)
"""Variables that systemd has set for this process, not for the daemon."""


class DaemonFailed(Exception):
    """The private daemon did not start, or ended with an error."""


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A new directory with a short path, removed with everything in it.

    It is in the usual place for temporary files, or in /tmp if a socket's path
    would be too long there.
    """
    usual = tempfile.gettempdir()
    place = usual if len(os.fsencode(usual)) <= _DIRECTORY_BYTES_MAX else "/tmp"
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        yield path
    finally:
        with _uninterrupted():
            shutil.rmtree(path)


@contextlib.contextmanager
def private_daemon(directory: Path) -> Iterator[str]:
    """Run a daemon with the selftest functions in `directory`; yields its runtime directory.

    The daemon has the default configuration, not the machine's, and is
    ended with all of its processes.

    Raises:
        DaemonFailed: the daemon did not start, or ended with an error.
    """
    runtime, config, log = directory / "run", directory / "ktaskd.toml", directory / "ktaskd.log"
    config.touch()
    words = [sys.executable, "-m", "ktaskd", "--selftest", "--own-user", "--idle-exit", str(_ORPHAN_EXIT_S)]
    words += ["--runtime-dir", str(runtime), "--config", str(config)]
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words,
            env=environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            # Ctrl-C is for this process: it cancels the job, and only then ends the daemon.
            start_new_session=True,
        )
    try:
        _wait_ready(process, runtime, log)
        yield str(runtime)
    finally:
        with _uninterrupted():
            status = _stop(process)
    if status != 0:
        raise DaemonFailed(f"daemon: exit status {status} instead of 0\n{_tail(log)}")


def _wait_ready(process: subprocess.Popen[bytes], runtime: Path, log: Path) -> None:
    """Wait until the daemon accepts connections."""
    deadline = time.monotonic() + START_TIMEOUT_S
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while why_silent(endpoint_of(runtime / "ktaskd.sock")):
            ended = poll.poll(_POLL_MS)
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"not up after {START_TIMEOUT_S:g} s"
                raise DaemonFailed(f"daemon: {what}\n{_tail(log)}")
    finally:
        os.close(pidfd)


def _stop(process: subprocess.Popen[bytes]) -> int:
    """End the daemon and return its exit status. Its workers end with it, killed or not."""
    process.terminate()
    try:
        return process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Run a short cleanup without an interruption by Ctrl-C and similar signals."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no handler runs here
        return
    # Ignored, not blocked: another thread, such as gRPC's, would receive blocked ones.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        return stream.read().decode(errors="replace").strip()
