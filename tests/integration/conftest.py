"""Fixtures: the daemon that most tests share, and a connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_daemon import Daemon, Stubs, connected, running, write_config
from tests.support.users import reachable_directory


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A daemon to which every user may connect; no test may change its behaviour."""
    with reachable_directory() as place:
        config = write_config(place / "ktaskd.toml", sockets={"mode": "0666"}, workers={"user": "nobody"})
        with running(place / "run", "--config", config) as started:
            yield started


@pytest.fixture
def stubs(daemon: Daemon) -> Iterator[Stubs]:
    """A connection to the shared daemon."""
    with connected(daemon.socket) as made:
        yield made


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    """A runtime directory with a short path, for a test's private daemon."""
    return reachable_dir / "run"
