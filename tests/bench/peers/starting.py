"""The start of the command, from `tests.bench.starts`, as lines."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.interference.line import Line
from tests.bench.peers.contest import Bench
from tests.bench.starts import rounds


def start(bench: Bench) -> Iterator[Line]:
    """Milliseconds of a help text and of a small job, and of an interpreter that does nothing."""
    for name, goal, wall, cpu in rounds(bench.runtime, bench.directory, bench.repeat):
        yield Line(name, tuple(wall), "ms", goal, f"CPU at least {min(cpu):.1f} ms")
