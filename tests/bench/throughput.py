"""How fast each function is: its library called in one process, one worker, all workers."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ktask
import numpy as np

from tests.against import tools
from tests.bench import direct
from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios
from tools.showcase import make_file

GOAL = Goal(0.9, at_least=True)
GOAL_FROM = 256 << 20
"""Sources with fewer bytes have no goal: the cost of a job is the larger part of theirs."""

ALL = 16
"""More workers than these machines have."""

BLOCK = 16 << 20
RECORD = bytes(range(64))

Call = Callable[[], object]


class Place:
    """The sources of all functions, made once; removed by `close`.

    Args:
        directory: for seven files of up to `size` bytes; memory takes three times as many.
    """

    def __init__(self, client: ktask.Client, directory: Path, size: int) -> None:
        self.client = client
        self.size = size
        self.path, self.same = directory / "source", directory / "same"
        self.text, self.squeezed = directory / "text", directory / "squeezed"
        self.target = directory / "target"
        make_file(self.path, size)
        direct.copy(self.path, self.same)
        lines = b"".join(b"line %d of some text, %x\n" % (i, i * 7919) for i in range(100_000))
        with self.text.open("wb") as file:
            for start in range(0, size, len(lines)):
                file.write(lines[: size - start])
        direct.compress(self.text, self.squeezed, "zstd")
        self.by_pzstd, self.seekable = directory / "by_pzstd", directory / "seekable"
        tools.seekable(self.text, self.seekable)
        if shutil.which("pzstd"):
            tools.pzstd(self.text, self.by_pzstd)
        self.file = ktask.file(self.path)
        self.memory, self.other, self.numbers = (ktask.memory(size) for _ in range(3))
        some = np.random.default_rng(7).normal(size=1 << 17).tobytes()
        for start in range(0, size, len(some)):
            self.numbers[start : start + len(some)] = some[: size - start]
        with self.path.open("rb") as stream:
            stream.readinto(self.memory)
        digests = direct.blocks(self.path, BLOCK, hashlib.sha256)
        self.expected = ktask.memory(32 * len(digests))
        self.expected[:] = b"".join(map(bytes.fromhex, digests))

    def close(self) -> None:
        """Remove all sources."""
        for source in (self.file, self.memory, self.other, self.numbers, self.expected):
            source.close()
        files = (self.path, self.same, self.text, self.squeezed, self.by_pzstd, self.seekable, self.target)
        for path in files:
            path.unlink(missing_ok=True)


class Case:
    """One function.

    Args:
        alone: the work of one process.
        name, sources, fields: of the job that does the same.
        before: makes the target again; not counted.
        about: distinguishes it from another one of the same function.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        alone: Callable[[], object],
        before: Callable[[], object] | None = None,
        about: str = "",
        arg: Mapping[str, Any] | None = None,
        ranges: list[tuple[int, int]] | None = None,
        **sources: Any,
    ) -> None:
        self.name = name
        self.about = about
        self._client = place.client
        self._alone = alone
        self._before = before
        self._arg = arg
        self._ranges = ranges
        self._sources = sources

    def alone(self) -> float:
        """Seconds that the direct call takes."""
        return self._timed(self._alone)

    def job(self, threads: int) -> float:
        """Seconds that the job takes."""
        return self._timed(
            lambda: self._client.run(
                self.name, arg=self._arg, ranges=self._ranges, max_threads=threads, **self._sources
            )
        )

    def submit(self, threads: int) -> ktask.Job:
        """The same job, for which nobody waits."""
        if self._before is not None:
            self._before()
        return self._client.submit(
            self.name, arg=self._arg, ranges=self._ranges, max_threads=threads, **self._sources
        )

    def _timed(self, call: Callable[[], object]) -> float:
        if self._before is not None:
            self._before()
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin


def cases(p: Place) -> Iterator[Case]:
    """All functions, with the sources of a place."""
    yield Case(p, "file.crc32", lambda: direct.file_crc32(p.path), data=p.file)
    yield Case(p, "file.crc32c", lambda: direct.file_crc32c(p.path), data=p.file)
    yield Case(p, "file.sha256", lambda: direct.file_sha256(p.path), data=p.file)
    yield Case(p, "file.sha512", lambda: direct.file_sha512(p.path), data=p.file)
    yield Case(p, "file.blake3", lambda: direct.file_blake3(p.path), data=p.file)
    block = {"block": BLOCK}
    yield Case(p, "file.xxh3", lambda: direct.file_xxh3(p.path, BLOCK), arg=block, data=p.file)
    blocks: Call = lambda: direct.blocks(p.path, BLOCK, hashlib.sha256)  # noqa: E731
    yield Case(p, "file.manifest", blocks, arg=block, data=p.file)
    yield Case(p, "file.verify", blocks, arg=block, data=p.file, expected=p.expected)
    yield Case(p, "file.compare", lambda: direct.compare(p.path, p.same), a=p.file, b=p.same)
    yield Case(p, "file.warm", lambda: direct.warm(p.path), data=p.file)
    for needle in ("in no line", "line 777"):
        search: Call = partial(direct.search, p.text, needle.encode())
        yield Case(p, "text.search", search, about=f'"{needle}"', arg={"pattern": needle}, data=p.text)
    with ktask.memory(p.text.stat().st_size) as lines:
        extract: Call = partial(direct.extract, p.text, b"line 777")
        arg = {"pattern": "line 777"}
        yield Case(p, "text.extract", extract, about='"line 777"', arg=arg, data=p.text, lines=lines)
    yield from _storage(p)
    yield from _memory(p)


def _storage(p: Place) -> Iterator[Case]:
    def gone() -> None:
        p.target.unlink(missing_ok=True)

    def full() -> None:
        direct.copy(p.path, p.target)

    whole = [(0, p.size)]
    yield Case(p, "file.copy", lambda: direct.copy(p.path, p.target), gone, src=p.file, dst=p.target)
    allocate: Call = lambda: direct.allocate(p.target, p.size)  # noqa: E731
    yield from _archive(p, gone)
    yield Case(p, "file.allocate", allocate, gone, ranges=whole, data=p.target)
    yield Case(p, "file.punch", lambda: direct.punch(p.target, p.size), full, data=p.target)


def _archive(p: Place, gone: Call) -> Iterator[Case]:
    for kind in ("zstd", "gzip"):
        yield Case(
            p,
            "file.compress",
            partial(direct.compress, p.text, p.target, kind),
            gone,
            about=kind,
            arg={"format": kind},
            src=p.text,
            dst=p.target,
        )
    decompress: Call = lambda: direct.decompress(p.squeezed, p.target)  # noqa: E731
    yield Case(p, "file.decompress", decompress, gone, about="zstd frames", src=p.squeezed, dst=p.target)
    for about, path in (("pzstd", p.by_pzstd), ("seek table", p.seekable)):
        if path.exists():
            alone: Call = partial(direct.decompress, path, p.target)
            yield Case(p, "file.decompress", alone, gone, about=about, src=path, dst=p.target)


def _memory(p: Place) -> Iterator[Case]:
    whole: Call = lambda: direct.fill(p.other, 0)  # noqa: E731
    yield Case(p, "mem.fill", lambda: direct.fill(p.other, 7), arg={"value": 7}, data=p.other)
    yield Case(p, "mem.copy", lambda: direct.copy_memory(p.memory, p.other), src=p.memory, dst=p.other)
    pattern = {"record": RECORD.hex(), "index_at": 0}
    yield Case(p, "mem.pattern", lambda: direct.pattern(p.other, RECORD), whole, arg=pattern, data=p.other)
    yield Case(p, "array.reduce", lambda: direct.total(p.numbers), data=p.numbers)
    negate: Call = lambda: direct.negate(p.numbers)  # noqa: E731
    yield Case(p, "array.map", negate, arg={"ufunc": "negative"}, data=p.numbers)
    yield Case(p, "mem.populate", lambda: direct.populate(p.other), data=p.other)


def throughputs(client: ktask.Client, directory: Path, size: int, rounds: int) -> Iterator[Figure]:
    """The figures, one by one: one worker compared with the direct call, and all workers."""
    place = Place(client, directory, size)
    try:
        for case in cases(place):
            alone, one, every = in_turn(rounds, case.alone, partial(case.job, 1), partial(case.job, ALL))
            about = f"{_about(size, alone, one, every)} {case.about}".rstrip()
            yield Figure(case.name, ratios(alone, one), "", goal_for(size), about)
    finally:
        place.close()


def goal_for(size: int) -> Goal | None:
    """The goal with sources of this many bytes."""
    return GOAL if size >= GOAL_FROM else None


def _about(size: int, alone: list[float], one: list[float], every: list[float]) -> str:
    speeds = [size / Spread.of(seconds).median / (1 << 30) for seconds in (alone, one, every)]
    words = "direct {:.2f}, one worker {:.2f}, all {:.2f} GiB/s".format(*speeds)
    return f"{size >> 20} MiB: {words}"
