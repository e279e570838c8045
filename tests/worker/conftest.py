"""A real worker, and memory to work on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.worker.realworker import RealWorker, ready


@pytest.fixture
def worker() -> Iterator[RealWorker]:
    with ready() as worker:
        yield worker


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def other_memory() -> Iterator[int]:
    fd = os.memfd_create("other")
    try:
        yield fd
    finally:
        os.close(fd)
