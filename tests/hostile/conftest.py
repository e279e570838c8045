"""A daemon for all hostile clients, which nobody may break, and a neighbour beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.neighbour import Neighbour
from tests.integration.rig import Daemon, Stubs, connected, running, write_config
from tests.support.users import reachable_directory

HANDLES = 256
KEPT = 100
STALL_S = 1.0


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
def neighbour(daemon: Daemon) -> Iterator[Neighbour]:
    """A well-behaved client in a process of its own."""
    with Neighbour(daemon.place) as made:
        yield made


@pytest.fixture
def place(reachable_dir: Path) -> Path:
    return reachable_dir / "run"
