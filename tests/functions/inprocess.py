"""Runs bodies in the test's own process, on real files and memory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from ktaskd.functions.body import Body, Context, Json
from ktaskd.functions.choosing import Fastest
from ktaskd.model.function import Access, ArgValue
from ktaskd.worker.sources import Source
from tests.support.sources import facts_of

PAGE = 4096
MIB = 1 << 20

KINDS = ("sealed", "memfd", "shm", "file")
"""Mapped memory, unmapped memory, a file on tmpfs, and a file on a disk."""


class Recorder:
    """Takes the daemon's place: records reports, and recalls after some number of quanta."""

    def __init__(self, stop_after: int = -1, on_quantum: Callable[[int], None] | None = None) -> None:
        self.stop_after = stop_after
        self.positions: list[int] = []
        self.spans: list[tuple[int, int]] = []
        self.holes: list[tuple[int, int]] = []
        self._on_quantum = on_quantum

    def quantum(self, position: int) -> bool:
        self.positions.append(position)
        if self._on_quantum:
            self._on_quantum(position)
        return 0 <= self.stop_after < len(self.positions)

    def rest(self, wanted: int) -> bool:
        return False

    def prior(self, start: int, end: int, holes: Sequence[tuple[int, int]]) -> None:
        self.spans.append((start, end))
        self.holes.extend(holes)


@contextmanager
def opened(
    kind: str,
    directory: Path,
    *,
    own_offset: bool = False,
    access: Access = Access.READ_WRITE,
    name: str = "f",
) -> Iterator[Source]:
    """An empty source of a kind. `seal` seals the sealed kind once it has its length."""
    if kind in {"sealed", "memfd"}:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        top = Path("/dev/shm") if kind == "shm" else directory
        path = top / f"ktaskd-test-{os.getpid()}-{name}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()
    kept = os.readlink(f"/proc/self/fd/{fd}")
    assert kept
    source = Source(fd, facts_of(fd, own_offset=own_offset, access=access))
    try:
        yield source
    finally:
        source.close()


def prepare(body: Body, context: Context) -> Json:
    """Do what a worker does before the first chunk."""
    prepared = body.prepare(context)
    body.begin(context, prepared)
    return prepared


def seal(source: Source) -> None:
    """Seal memory against shrinking, as the client library does."""
    fcntl.fcntl(source.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    source.facts = facts_of(source.fd, own_offset=source.facts.own_offset, access=source.facts.access)


def fit(source: Source, kind: str, size: int) -> None:
    """Give a source its length, and seal it if its kind is sealed."""
    os.ftruncate(source.fd, size)
    if kind == "sealed":
        seal(source)


def lay_out(source: Source, size: int, data: Sequence[tuple[int, bytes]]) -> None:
    """Make a source `size` long with these bytes; everything else is a hole."""
    os.ftruncate(source.fd, 0)
    os.ftruncate(source.fd, size)
    for position, content in data:
        os.pwrite(source.fd, content, position)


def content(source: Source) -> bytes:
    """All bytes of a source, read without a mapping."""
    size = os.fstat(source.fd).st_size
    return os.pread(source.fd, size, 0) if size else b""


def hole_map(source: Source) -> list[tuple[int, int]]:
    """The data of a source as (start, end), by lseek on the test's own descriptor."""
    size = os.fstat(source.fd).st_size
    data = []
    position = 0
    while position < size:
        try:
            start = os.lseek(source.fd, position, os.SEEK_DATA)
        except OSError:
            break
        position = os.lseek(source.fd, start, os.SEEK_HOLE)
        data.append((start, position))
    return data


def context_of(
    span: tuple[int, int], *, whole: bool = False, arg: dict[str, ArgValue] | None = None, **sources: Source
) -> Context:
    """A context as a worker makes it."""
    return Context(arg or {}, sources, {}, span, whole)


def take_turns(monkeypatch: pytest.MonkeyPatch, *ways: int) -> None:
    """Let the quanta take these ways in turn, whatever they cost."""
    order = cycle(ways)
    monkeypatch.setattr(Fastest, "begin", lambda self: next(order))
    monkeypatch.setattr(Fastest, "end", lambda self, count: None)
