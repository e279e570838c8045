"""Fixtures of several tests of the door."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.door.door_with_keepers import memory


@pytest.fixture
def fd() -> Iterator[int]:
    """A memfd."""
    fd = memory()
    yield fd
    os.close(fd)
