"""Physical ways: how fast a body does its work in one process, beside the bare calls that do the same.

Each way runs in a process of its own, without a daemon. The ways of a row are measured in turn, on
fresh sources each time. A ratio is the body's median over the least median of the bare ways.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import sys
import tempfile
import time
import traceback
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.model.function import Access, ArgValue
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.worker.control import ChunkControl
from ktaskd.worker.sources import Source
from tests.bench import physical as bare
from tests.bench.physical import MIB, Work


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work of a row. A bare way is what the bodies are compared with."""

    name: str
    work: Work
    workers: int = 1
    is_bare: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A case: makes its sources, and has several ways to work on them."""

    name: str
    size: int
    sources: Callable[[Path, int], dict[str, int]]
    ways: Sequence[Way]


def _facts(fd: int) -> SourceFacts:
    status, kind = os.fstat(fd), os.readlink(f"/proc/self/fd/{fd}")
    memory = kind.startswith(("/memfd:", "/dev/shm/"))
    return SourceFacts(
        SourceKind.MEMORY if memory else SourceKind.FILE,
        Access.READ_WRITE,
        append=False,
        seals=bare.SEAL_SHRINK if kind.startswith("/memfd:") else 0,
        size=status.st_size,
        page_size=mmap.PAGESIZE,
        device=status.st_dev,
        inode=status.st_ino,
        file_system="tmpfs" if memory else "ext4",
        own_offset=True,
    )


def body(name: str, workers: int = 1, **arg: ArgValue) -> Way:
    """The body of a function as a worker runs it, with a control that nobody listens to."""

    def work(fds: Mapping[str, int], start: int, end: int) -> None:
        sources = {role: Source(fd, _facts(fd)) for role, fd in fds.items()}
        defaults = {item.name: item.default for item in CATALOGUE[name].arguments if item.default is not None}
        context = Context({**defaults, **arg}, sources, {}, (start, end), whole=False)
        control = ChunkControl(memoryview(array("q", bytes(4096))), lambda frame: None)
        control.begin(1)
        one = find(name)
        prepared = one.prepare(context)
        one.begin(context, prepared)
        reached, _ = one.run(context, start, end, control)
        assert reached == end

    return Way(f"{name}, {workers} worker{'s'[: workers > 1]}", work, workers, is_bare=False)


# Sources.


def _fills() -> list[Way]:
    """mem.fill beside writes of the same bytes."""
    return [
        Way("memset of a mapping", bare.memset),
        Way("populate 2 MiB, memset", bare.memset_populated),
        Way("huge pages, memset", bare.memset_huge),
        Way("pwrite 256 KiB", bare.pwrite),
        Way("pwrite 256 KiB, 2 processes", bare.pwrite, 2),
        Way("memset of a mapping, 2 processes", bare.memset, 2),
        body("mem.fill", value=7),
        body("mem.fill", 2, value=7),
    ]


def _sums() -> list[Way]:
    """file.crc32 beside the same library."""
    return [
        Way("mapping", bare.crc_mapped),
        Way("mapping, populated first", bare.crc_populated),
        Way("pread 256 KiB", bare.crc_read(bare.PIECE)),
        Way("mapping, 2 processes", bare.crc_mapped, 2),
        body("file.crc32"),
        body("file.crc32", 2),
    ]


def _copies() -> list[Way]:
    """file.copy beside loops and the kernel."""
    return [
        Way("pread, pwrite 256 KiB", bare.loop(bare.PIECE)),
        Way("pread, pwrite 1 MiB", bare.loop(MIB)),
        Way("pwrite from a mapping", bare.written),
        Way("copy_file_range", bare.kernel),
        body("file.copy"),
        body("file.copy", 2),
    ]


def _populates() -> list[Way]:
    """mem.populate beside the calls that allocate."""
    return [
        Way("populate", bare.populate),
        Way("populate, huge pages", bare.populate_huge),
        Way("fallocate", bare.fallocate),
        body("mem.populate"),
        body("mem.populate", 2),
    ]


def rows(size: int) -> list[Row]:
    """All cases."""
    fills, sums, copies, populates = _fills(), _sums(), _copies(), _populates()
    cp = Way("cp", bare.cp)
    zeros = [Way("punch", bare.punch), Way("pwrite", bare.zeros)]
    zero = [body("mem.fill", value=0), body("mem.fill", 2, value=0)]
    into = Way("pread into a mapping", bare.read_into)
    return [
        Row("fill-fresh", size, bare.fresh, fills),
        Row("fill-present", size, bare.present, fills),
        Row(
            "fill-zero-holes",
            size,
            bare.fresh,
            [Way("fallocate", bare.fallocate), *zeros, *zero],
        ),
        Row(
            "fill-zero-present",
            size,
            bare.present,
            [Way("punch", bare.punch), Way("pwrite", bare.zeros), *zero],
        ),
        Row("populate", 4 * size, bare.fresh, populates),
        Row("populate-present", size, bare.present, [Way("populate", bare.populate), *populates[3:]]),
        Row("crc32-memory", size, bare.present, sums),
        Row("crc32-file", size, bare.cached, sums),
        Row("copy-to-file", size, bare.to_file, [cp, *copies]),
        Row("copy-to-memory", size, bare.to_memory, [cp, into, *copies[:3], *copies[4:]]),
        Row(
            "copy-memory",
            size,
            bare.memories,
            [*copies[:3], Way("mapping to mapping", bare.copied), body("mem.copy"), body("mem.copy", 2)],
        ),
    ]


def measure(way: Way, fds: Mapping[str, int], size: int) -> tuple[float, float]:
    """Seconds until all processes are done, and their CPU time."""
    ready, go = os.pipe(), os.pipe()
    share = size // way.workers // (2 * MIB) * 2 * MIB
    edges = [*(i * share for i in range(way.workers)), size]
    children = []
    for i in range(way.workers):
        if not (child := os.fork()):
            try:
                os.write(ready[1], b"r")
                os.read(go[0], 1)
                way.work(fds, edges[i], edges[i + 1])
                os.write(ready[1], b"r")  # unmapping is no part of the time, but of the CPU time
                os._exit(0)
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(1)
        children.append(child)
    os.close(ready[1])  # so that a child that dies ends the read
    _read_all(ready[0], way.workers)
    begin = time.perf_counter()
    os.write(go[1], b"g" * way.workers)
    _read_all(ready[0], way.workers)
    elapsed, cpu = time.perf_counter() - begin, 0.0
    for child in children:
        _, status, usage = os.wait4(child, 0)
        assert status == 0, way.name
        cpu += usage.ru_utime + usage.ru_stime
    for fd in (ready[0], *go):
        os.close(fd)
    return elapsed, cpu


def _read_all(fd: int, count: int) -> None:
    for _ in range(count):
        assert os.read(fd, 1)


def show(row: Row, directory: Path, repeat: int) -> None:
    """Measure a row and print it."""
    found: dict[str, list[tuple[float, float]]] = {way.name: [] for way in row.ways}
    for _ in range(repeat):
        for way in row.ways:
            fds = row.sources(directory, row.size)
            found[way.name].append(measure(way, fds, row.size))
            for fd in fds.values():
                os.close(fd)
    seconds = {name: statistics.median(wall for wall, _ in runs) for name, runs in found.items()}
    best = min(seconds[way.name] for way in row.ways if way.is_bare and way.workers == 1)
    print(f"{row.name}, {row.size >> 20} MiB")
    for way in row.ways:
        least = min(wall for wall, _ in found[way.name])
        cpu = statistics.median(cpu for _, cpu in found[way.name])
        print(
            f"  {way.name:36} {seconds[way.name] * 1e3:8.1f} ms (least {least * 1e3:.1f}), "
            f"CPU {cpu * 1e3:.0f} ms, {seconds[way.name] / best:.2f}"
        )
    sys.stdout.flush()


def main() -> None:
    """Measure the rows that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ways", description=__doc__)
    parser.add_argument(
        "--only", action="append", metavar="ROW", help="measure only this row; may be repeated"
    )
    parser.add_argument("--repeat", type=int, default=5, help="rounds; default 5")
    parser.add_argument("--mib", type=int, default=1024, help="size of each source; default 1024")
    parser.add_argument("--directory", help="where the files are; default: a new one in /var/tmp")
    given = parser.parse_args()
    known = rows(given.mib << 20)
    unknown = set(given.only or ()) - {row.name for row in known}
    if unknown:
        parser.error(f"--only: got {min(unknown)}, wanted one of {', '.join(row.name for row in known)}")
    with tempfile.TemporaryDirectory(dir=given.directory or "/var/tmp") as directory:
        for row in known:
            if not given.only or row.name in given.only:
                show(row, Path(directory), given.repeat)


if __name__ == "__main__":
    main()
