from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest

from tests.client.fake import FakeDaemon
from tests.support.real_daemon import starting


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose sockets have short paths, gRPC's server has no way around."""
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
    """The directory of a real daemon, with the functions for tests."""
    with tempfile.TemporaryDirectory(prefix="ktask-") as path:
        place = Path(path) / "run"
        with starting(place, "--selftest") as daemon:
            daemon.wait_ready()
            yield place
            assert daemon.stop() == 0
