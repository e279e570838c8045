"""A small file system that fills up quickly, if the test may mount one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if LIBC.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, b"size=4m") != 0:
        pytest.skip("a full disk: needs the right to mount a small tmpfs")
    try:
        yield place
    finally:
        assert LIBC.umount2(os.fsencode(place), 0) == 0
