from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest

from tests.client.fake import FakeDaemon


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
