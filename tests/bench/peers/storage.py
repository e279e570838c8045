"""file.copy, mem.fill and mem.populate, over the ways in which one process does the same."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import ktask
from isal.isal_zlib import crc32

from tests.against.tools import tool
from tests.bench import direct
from tests.bench.interference.line import Line
from tests.bench.peers.contest import LIMIT_SHARE, Bench, Way, against, at_most, contest, mib
from tools.showcase import make_file

_PIECE = 256 << 10


def copy(bench: Bench) -> Iterator[Line]:
    """A file to a new file and to new memory, by one worker and by as many as ktaskd takes."""
    source, target = bench.directory / "source", bench.directory / "target"
    make_file(source, bench.size)
    direct.warm(source)

    def gone() -> None:
        target.unlink(missing_ok=True)

    def job(threads: int) -> None:
        bench.client.run("file.copy", src=source, dst=target, max_threads=threads)

    rivals: Mapping[str, Callable[[], object]] = {
        "cp": partial(tool, "cp", "--reflink=never", source, target),
        "loop": partial(_loop_to_file, source, target),
    }
    yield from _copies(
        bench, f"{mib(bench.size)} to a new file", job, rivals, gone, partial(direct.file_crc32, target)
    )
    with _Fresh(bench.size) as fresh:

        def into(threads: int) -> None:
            bench.client.run("file.copy", src=source, dst=fresh.region, max_threads=threads)

        rivals = {
            "loop": lambda: _loop(source, fresh.region.fileno()),
            "read into mapping": lambda: _read_into(source, fresh.region),
        }
        yield from _copies(
            bench, f"{mib(bench.size)} to new memory", into, rivals, fresh.renew, fresh.checksum
        )
    gone()
    source.unlink()


def _copies(
    bench: Bench,
    name: str,
    job: Callable[[int], None],
    rivals: Mapping[str, Callable[[], object]],
    before: Callable[[], object],
    answer: Callable[[], object],
) -> Iterator[Line]:
    works: dict[str, Callable[[], object]] = {
        "1 worker": partial(job, 1),
        "default": partial(job, 0),
        **rivals,
    }
    times = contest(bench.repeat, {way: Way(work, before, answer=answer) for way, work in works.items()})
    for ours in ("1 worker", "default"):
        yield against(times, ours, list(rivals), at_most(1.05), f"file.copy, {name}, {ours}")
    goal = at_most(LIMIT_SHARE)
    yield Line(f"  {name}: the default over 1 worker", times.ratio("default", "1 worker"), "", goal)


def fill(bench: Bench) -> Iterator[Line]:
    """mem.fill of fresh and of present memory, and of 0 over holes, over the best of several ways."""
    with _Fresh(bench.size) as fresh:
        for name, value, before in (
            ("fresh", 7, fresh.renew),
            ("present", 7, None),
            ("0 over holes", 0, fresh.renew),
        ):
            times = contest(bench.repeat, dict(_fills(bench, fresh, value, before)))
            rivals = [one for one in times.by_name if one != "ours"]
            title = f"mem.fill, {mib(bench.size)}, {name}, over {times.best(rivals)}"
            yield against(times, "ours", rivals, at_most(1.1), title)


def _fills(
    bench: Bench, fresh: _Fresh, value: int, before: Callable[[], None] | None
) -> Iterator[tuple[str, Way]]:
    def job() -> None:
        bench.client.run("mem.fill", arg={"value": value}, data=fresh.region)

    yield "ours", Way(job, before, answer=fresh.checksum)
    yield "memset", Way(lambda: _memset(fresh, value), before, answer=fresh.checksum)
    yield "pwrite", Way(lambda: _pwrite(fresh, value), before, answer=fresh.checksum)
    if not value:
        hole: Callable[[], None] = lambda: os.posix_fallocate(fresh.region.fileno(), 0, bench.size)  # noqa: E731
        yield "fallocate", Way(hole, before, answer=fresh.checksum)


def populate(bench: Bench) -> Iterator[Line]:
    """mem.populate of four times the usual size, over two ways of one process."""
    size = 4 * bench.size
    with _Fresh(size) as fresh:

        def job(threads: int) -> None:
            bench.client.run("mem.populate", data=fresh.region, max_threads=threads)

        works: dict[str, Callable[[], None]] = {
            "1 worker": partial(job, 1),
            "2 workers": partial(job, 2),
            "fallocate": lambda: os.posix_fallocate(fresh.region.fileno(), 0, size),
            "MADV_POPULATE_WRITE": lambda: _populate(fresh),
        }
        allocated: Callable[[], object] = lambda: os.fstat(fresh.region.fileno()).st_blocks  # noqa: E731
        ways = {name: Way(work, fresh.renew, answer=allocated) for name, work in works.items()}
        times = contest(bench.repeat, ways)
    rivals = ["fallocate", "MADV_POPULATE_WRITE"]
    for ours, goal in (("1 worker", 1.05), ("2 workers", 0.65)):
        yield against(times, ours, rivals, at_most(goal), f"mem.populate, {mib(size)}, {ours}")


class _Fresh:
    """Memory without pages, made again for each turn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.region = ktask.memory(size)

    def __enter__(self) -> _Fresh:
        return self

    def __exit__(self, *_: object) -> None:
        self.region.close()

    def renew(self) -> None:
        """Replace the region by a new one."""
        self.region.close()
        self.region = ktask.memory(self._size)

    def checksum(self) -> int:
        """A checksum of the content."""
        with memoryview(self.region) as view:
            return int(crc32(view))


@contextlib.contextmanager
def _mapped(fresh: _Fresh) -> Iterator[mmap.mmap]:
    """A new mapping of the region, as a process has that begins to use it."""
    with mmap.mmap(fresh.region.fileno(), 0) as mapped:
        yield mapped


def _memset(fresh: _Fresh, value: int) -> None:
    with _mapped(fresh) as mapped:
        direct.fill(mapped, value)


def _populate(fresh: _Fresh) -> None:
    with _mapped(fresh) as mapped:
        direct.populate(mapped)


def _pwrite(fresh: _Fresh, value: int) -> None:
    piece, fd = bytes([value]) * _PIECE, fresh.region.fileno()
    for start in range(0, len(memoryview(fresh.region)), _PIECE):
        os.pwrite(fd, piece, start)


def _loop_to_file(source: Path, target: Path) -> None:
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _loop(source, fd)
    finally:
        os.close(fd)


def _loop(source: Path, target: int) -> None:
    """Copy by read and write, which is faster here than copy_file_range and sendfile."""
    buffer, start = memoryview(bytearray(_PIECE)), 0
    with source.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            start += os.pwrite(target, buffer[:count], start)


def _read_into(source: Path, region: ktask.Memory) -> None:
    with source.open("rb", buffering=0) as stream, memoryview(region) as view:
        start = 0
        while count := stream.readinto(view[start : start + _PIECE]):
            start += count
