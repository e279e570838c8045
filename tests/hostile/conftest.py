"""A daemon for all hostile clients, which none of them may break, and a well-behaved neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import counters, fds_of, neighbour_of, open_daemon
from tests.hostile.neighbour import Neighbour
from tests.support.real_daemon import Daemon, Stubs, connected, until
from tests.support.users import OtherUsers


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A daemon that everybody may connect to, with small limits where a test has to reach them."""
    with open_daemon() as started:
        yield started


@pytest.fixture
def stubs(daemon: Daemon) -> Iterator[Stubs]:
    with connected(daemon.socket) as made:
        yield made


@pytest.fixture
def neighbour(daemon: Daemon, run_as: OtherUsers) -> Iterator[Neighbour]:
    with neighbour_of(daemon, run_as) as made:
        yield made


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    return reachable_dir / "run"


@pytest.fixture
def nothing_is_left(daemon: Daemon, stubs: Stubs) -> Iterator[None]:
    """Check that in the end the daemon is as before: connections, handles, jobs, descriptors."""
    stubs.jobs.List(pb.ListRequest())
    before, fds = counters(stubs), fds_of(daemon.process.pid)
    yield
    same = ("connections", "handoff_connections", "handles", "jobs_unended")

    def at_rest() -> bool:
        now = counters(stubs)
        return all(now[name] == before[name] for name in same) and fds_of(daemon.process.pid) <= fds + 4

    until(at_rest, f"the daemon is as it was: {before}, {fds} descriptors")
