"""Loads gRPC with the poller that it had before its event engine.

In the event engine a request passes four threads before Python sees it; with the poller one thread
reads and hands over. Measured with gRPC 1.85 on two CPUs: a health check takes 0.22 ms of the server's
CPU time in place of 0.26 to 0.34, and the call is a tenth faster. The library keeps the event engine: a
process that forks during a call could not connect in the child without it.

gRPC reads the variable when it is loaded, so no child of the daemon sees it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

EXPERIMENTS = "GRPC_EXPERIMENTS"

SINCE, BEFORE = (1, 85), (1, 86)
"""Versions of gRPC that have the experiments below. Others write a line on the terminal for a name that
they do not know, so they are loaded as they are."""

WITHOUT = (
    "event_engine_client",
    "event_engine_listener",
    "event_engine_for_all_other_endpoints",
    "event_engine_callback_cq",
)
"""Experiments that are switched off."""

_VERSION = re.compile(r'__version__ = "+(\d+)\.(\d+)')


@contextlib.contextmanager
def with_own_poller() -> Iterator[None]:
    """Load gRPC inside. If GRPC_EXPERIMENTS is set, or another version is installed, nothing is changed."""
    if EXPERIMENTS in os.environ or not SINCE <= installed() < BEFORE:
        yield
        return
    os.environ[EXPERIMENTS] = ",".join(f"-{name}" for name in WITHOUT)
    try:
        yield
    finally:
        del os.environ[EXPERIMENTS]


def installed() -> tuple[int, int]:
    """Version of the gRPC that would be loaded, found without loading it; (0, 0) = not known."""
    found = importlib.util.find_spec("grpc")
    if found is None or found.origin is None:
        return 0, 0
    with contextlib.suppress(OSError):
        if match := _VERSION.search((Path(found.origin).parent / "_grpcio_metadata.py").read_text()):
            return int(match[1]), int(match[2])
    return 0, 0
