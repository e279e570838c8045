"""Tests that measure the machine have it to themselves, also where tests run in several processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
_GATE, _MACHINE = _TESTS / "__init__.py", _TESTS / "conftest.py"
"""Files that are there anyway, to be locked."""


def is_parallel() -> bool:
    """Whether this process is one of several that share the tests among them (pytest-xdist)."""
    return "PYTEST_XDIST_WORKER" in os.environ


def has_the_machine(alone: bool) -> AbstractContextManager[None]:
    """What a test runs in: beside others, or alone. Nothing is waited for where tests run one by one."""
    return held(alone) if is_parallel() else nullcontext()


@contextmanager
def held(alone: bool) -> Iterator[None]:
    """Hold the machine together with others, or alone, once all that hold it have let go.

    Whoever waits stands in the gate and lets nobody else in, so that one test that wants to be
    alone is not outrun for as long as others begin.
    """
    with _locked(_GATE, fcntl.LOCK_EX) as gate, _locked(_MACHINE, fcntl.LOCK_EX if alone else fcntl.LOCK_SH):
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, kind)
        yield fd
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked has this descriptor too
        os.close(fd)
