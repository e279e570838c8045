"""A daemon for all hostile clients, which nobody may break, and a neighbour beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.neighbour import Neighbour
from tests.hostile.rig import counters, fds_of
from tests.integration.rig import Daemon, Stubs, connected, running, until, write_config
from tests.support.users import OtherUsers, reachable_directory

HANDLES = 256
KEPT = 3000
STALL_S = 1.0
BESIDE = 60009
"""The neighbour's uid."""


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """Everybody may connect; small where a test has to fill something."""
    with reachable_directory() as place:
        config = write_config(
            place / "ktaskd.toml",
            sockets={"mode": "0666", "handles_per_uid": HANDLES, "watch_stall_s": STALL_S},
            workers={"user": "nobody"},
            jobs={"kept": KEPT},
        )
        with running(place / "run", "--config", config) as started:
            yield started


@pytest.fixture
def stubs(daemon: Daemon) -> Iterator[Stubs]:
    with connected(daemon.socket) as made:
        yield made


@pytest.fixture
def neighbour(daemon: Daemon, run_as: OtherUsers) -> Iterator[Neighbour]:
    """A well-behaved client in a process of its own; another user's, where that is possible."""

    def start(code: str, place: str, **options: Any) -> subprocess.Popen[str]:
        if os.geteuid() == 0:
            return run_as.start(BESIDE, [run_as.interpreter, "-c", code, place], **options)
        return subprocess.Popen([sys.executable, "-c", code, place], text=True, **options)

    with Neighbour(daemon.place, start) as made:
        yield made


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    return reachable_dir / "run"


@pytest.fixture
def nothing_is_left(daemon: Daemon, stubs: Stubs) -> Iterator[None]:
    """The daemon is as before in the end: connections, handles, jobs, descriptors."""
    stubs.jobs.List(pb.ListRequest())
    before, fds = counters(stubs), fds_of(daemon.process.pid)
    yield
    same = ("connections", "handoff_connections", "handles", "jobs_unended")

    def at_rest() -> bool:
        now = counters(stubs)
        return all(now[name] == before[name] for name in same) and fds_of(daemon.process.pid) <= fds + 4

    until(at_rest, f"the daemon is as it was: {before}, {fds} descriptors")
