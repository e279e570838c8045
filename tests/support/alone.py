"""Tests that measure the machine have it to themselves, even if tests run in several processes."""

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
    """Run a test in parallel with others, or alone. There is no waiting if tests run one by one."""
    return held(alone) if is_parallel() else nullcontext()


@contextmanager
def held(alone: bool) -> Iterator[None]:
    """Hold the machine together with others, or alone, as soon as its holders allow that.

    A test that waits holds the gate, so that no other test can enter before it. Otherwise a test that
    wants to be alone would starve for as long as others begin.
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
        fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child has this descriptor too
        os.close(fd)
