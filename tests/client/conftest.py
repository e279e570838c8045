"""Fixtures: a fake daemon, a real one, and an environment without any."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest
from ktask.link import locate, trust

from tests.client.fake import FakeDaemon
from tests.client.processes import end, pids, program
from tests.support.real_daemon import starting


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path, since gRPC's server cannot listen on a long one."""
    with tempfile.TemporaryDirectory(prefix="ktask-") as path:
        yield Path(path)


@pytest.fixture
def fake(short_dir: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(short_dir) as daemon:
        yield daemon


@pytest.fixture
def client(fake: FakeDaemon) -> Iterator[ktask.Client]:
    with ktask.connect(fake.directory) as connected:
        yield connected


@pytest.fixture(scope="session")
def real() -> Iterator[Path]:
    """The directory of a real daemon with the selftest functions."""
    with tempfile.TemporaryDirectory(prefix="ktask-") as path:
        place = Path(path) / "run"
        with starting(place, "--selftest") as daemon:
            daemon.wait_ready()
            yield place
            assert daemon.stop() == 0


@pytest.fixture
def nowhere(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without any daemon; returns its runtime directory."""
    runtime = short_dir / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setattr(trust, "SYSTEM_DIR", str(short_dir / "system"))
    return runtime


@pytest.fixture
def fake_python(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An interpreter whose `-m ktaskd` is a fake daemon; each start adds a line to the returned file."""
    starts = short_dir / "starts"
    starts.touch()
    code = (
        "import fcntl, os, pathlib, signal, sys\n"
        "from tests.client.fake import FakeDaemon\n"
        "args = sys.argv[1:]\n"
        "open(os.environ['STARTS'], 'a').write(f'{os.getpid()} {args} {os.getppid()} {os.getsid(0)}\\n')\n"
        "directory = pathlib.Path(args[3])\n"
        "lock = open(directory / 'lock', 'w')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "with FakeDaemon(directory):\n"
        "    signal.sigwait([signal.SIGTERM])\n"
    )
    script = f'#!/bin/sh\ncd "{Path.cwd()}"\nexec "{sys.executable}" -c "$FAKE_CODE" "$@"\n'
    monkeypatch.setenv("FAKE_CODE", code)
    monkeypatch.setenv("STARTS", str(starts))
    monkeypatch.setattr(sys, "executable", program(short_dir, "python", script))
    yield starts
    for pid in pids(starts):
        end(pid)
