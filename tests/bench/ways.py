"""Physical ways: how fast a body does its work in one process, beside the bare calls that do the same.

Each way runs in a process of its own, without a daemon. The ways of a row are measured in turn, on
fresh sources each time. A ratio is the body's median over the least median of the bare ways.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.files import holes
from ktaskd.model.function import Access, ArgValue
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.worker.control import ChunkControl
from ktaskd.worker.sources import Source

MIB = 1 << 20
_PIECE = 256 << 10
_POPULATE_WRITE = 23
_SEAL_SHRINK, _ADD_SEALS = 2, 1033
"""Source: linux/mman.h, linux/fcntl.h"""

Work = Callable[[Mapping[str, int], int, int], object]
"""Works on [start, end) of open files, by role."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work of a row. A bare way is what the bodies are compared with."""

    name: str
    work: Work
    workers: int = 1
    bare: bool = True


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
        seals=_SEAL_SHRINK if kind.startswith("/memfd:") else 0,
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

    return Way(f"{name}, {workers} worker{'s'[: workers > 1]}", work, workers, bare=False)


# Sources.


def fresh(_: Path, size: int) -> dict[str, int]:
    """New memory without a page."""
    fd = os.memfd_create("ways", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return {"data": fd}


def present(directory: Path, size: int) -> dict[str, int]:
    """Memory that has all its pages."""
    fds = fresh(directory, size)
    _pwrite(fds, 0, size)
    return fds


def cached(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache."""
    path = directory / "cached"
    if not path.exists():
        path.touch()
        fd = os.open(path, os.O_RDWR)
        _pwrite({"data": fd}, 0, size)
        os.fsync(fd)
        os.close(fd)
    return {"data": os.open(path, os.O_RDWR)}


def to_file(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache, and a new empty one."""
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    return {"src": cached(directory, size)["data"], "dst": fd}


def to_memory(directory: Path, size: int) -> dict[str, int]:
    """A file in the page cache, and new memory."""
    return {"src": cached(directory, size)["data"], "dst": fresh(directory, size)["data"]}


def memories(directory: Path, size: int) -> dict[str, int]:
    """Memory that has its pages, and new memory."""
    return {"src": present(directory, size)["data"], "dst": fresh(directory, size)["data"]}


# Bare ways.


def _pwrite(fds: Mapping[str, int], start: int, end: int, value: int = 7) -> None:
    buffer = bytes([value]) * _PIECE
    for at in range(start, end, _PIECE):
        os.pwrite(fds["data"], buffer, at)


def _mapped(fd: int, end: int) -> mmap.mmap:
    return mmap.mmap(fd, end, flags=mmap.MAP_SHARED)


def _memset(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = _mapped(fds["data"], end)
    anchor = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(anchor) + start, 7, end - start)


def _populate(fds: Mapping[str, int], start: int, end: int) -> None:
    _mapped(fds["data"], end).madvise(_POPULATE_WRITE, start, end - start)


def _populate_huge(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = _mapped(fds["data"], end)
    memory.madvise(mmap.MADV_HUGEPAGE, start, end - start)
    memory.madvise(_POPULATE_WRITE, start, end - start)


def _memset_populated(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = _mapped(fds["data"], end)
    anchor = ctypes.c_char.from_buffer(memory)
    for at in range(start, end, 2 * MIB):
        memory.madvise(_POPULATE_WRITE, at, min(2 * MIB, end - at))
        ctypes.memset(ctypes.addressof(anchor) + at, 7, min(2 * MIB, end - at))


def _memset_huge(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = _mapped(fds["data"], end)
    memory.madvise(mmap.MADV_HUGEPAGE, start, end - start)
    anchor = ctypes.c_char.from_buffer(memory)
    ctypes.memset(ctypes.addressof(anchor) + start, 7, end - start)


def _fallocate(fds: Mapping[str, int], start: int, end: int) -> None:
    holes.allocate(fds["data"], start, end)


def _punch(fds: Mapping[str, int], start: int, end: int) -> None:
    holes.punch(fds["data"], start, end)


def _crc_mapped(fds: Mapping[str, int], start: int, end: int) -> None:
    with memoryview(_mapped(fds["data"], end)) as whole:
        crc32(whole[start:end])


def _crc_populated(fds: Mapping[str, int], start: int, end: int) -> None:
    memory = mmap.mmap(fds["data"], end, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    with memoryview(memory) as whole:
        crc32(whole[start:end])


def _crc_read(piece: int) -> Work:
    def work(fds: Mapping[str, int], start: int, end: int) -> None:
        buffer, value = bytearray(piece), 0
        for at in range(start, end, piece):
            os.preadv(fds["data"], [buffer], at)
            value = crc32(buffer, value)

    return work


def _loop(piece: int) -> Work:
    def work(fds: Mapping[str, int], start: int, end: int) -> None:
        buffer = bytearray(piece)
        for at in range(start, end, piece):
            os.preadv(fds["src"], [buffer], at)
            os.pwrite(fds["dst"], buffer, at)

    return work


def _kernel(fds: Mapping[str, int], start: int, end: int) -> None:
    while start < end:
        start += os.copy_file_range(fds["src"], fds["dst"], min(end - start, 8 * MIB), start, start)


def _cp(fds: Mapping[str, int], start: int, end: int) -> None:
    paths = [f"/proc/self/fd/{fds[role]}" for role in ("src", "dst")]
    subprocess.run(["cp", "--sparse=never", *paths], check=True, pass_fds=list(fds.values()))


def _copied(fds: Mapping[str, int], start: int, end: int) -> None:
    source = mmap.mmap(fds["src"], end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    with memoryview(source) as src, memoryview(_mapped(fds["dst"], end)) as dst:
        dst[start:end] = src[start:end]


def _written(fds: Mapping[str, int], start: int, end: int) -> None:
    """One copy from a mapping into the file."""
    source = mmap.mmap(fds["src"], end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    with memoryview(source) as src:
        for at in range(start, end, MIB):
            os.pwrite(fds["dst"], src[at : at + MIB], at)


def _read_into(fds: Mapping[str, int], start: int, end: int) -> None:
    """One copy from the file into a mapping."""
    with memoryview(_mapped(fds["dst"], end)) as dst:
        for at in range(start, end, MIB):
            os.preadv(fds["src"], [dst[at : at + MIB]], at)


def _zeros(fds: Mapping[str, int], start: int, end: int) -> None:
    _pwrite(fds, start, end, 0)


def rows(size: int) -> list[Row]:
    """All cases."""
    fills = [
        Way("memset of a mapping", _memset),
        Way("populate 2 MiB, memset", _memset_populated),
        Way("huge pages, memset", _memset_huge),
        Way("pwrite 256 KiB", _pwrite),
        Way("pwrite 256 KiB, 2 processes", _pwrite, 2),
        Way("memset of a mapping, 2 processes", _memset, 2),
        body("mem.fill", value=7),
        body("mem.fill", 2, value=7),
    ]
    sums = [
        Way("mapping", _crc_mapped),
        Way("mapping, populated first", _crc_populated),
        Way("pread 256 KiB", _crc_read(_PIECE)),
        Way("mapping, 2 processes", _crc_mapped, 2),
        body("file.crc32"),
        body("file.crc32", 2),
    ]
    copies = [
        Way("pread, pwrite 256 KiB", _loop(_PIECE)),
        Way("pread, pwrite 1 MiB", _loop(MIB)),
        Way("pwrite from a mapping", _written),
        Way("copy_file_range", _kernel),
        body("file.copy"),
        body("file.copy", 2),
    ]
    cp = Way("cp", _cp)
    populates = [
        Way("populate", _populate),
        Way("populate, huge pages", _populate_huge),
        Way("fallocate", _fallocate),
        body("mem.populate"),
        body("mem.populate", 2),
    ]
    zero = [body("mem.fill", value=0), body("mem.fill", 2, value=0)]
    into = Way("pread into a mapping", _read_into)
    return [
        Row("fill-fresh", size, fresh, fills),
        Row("fill-present", size, present, fills),
        Row(
            "fill-zero-holes",
            size,
            fresh,
            [Way("fallocate", _fallocate), Way("punch", _punch), Way("pwrite", _zeros), *zero],
        ),
        Row("fill-zero-present", size, present, [Way("punch", _punch), Way("pwrite", _zeros), *zero]),
        Row("populate", 4 * size, fresh, populates),
        Row("populate-present", size, present, [Way("populate", _populate), *populates[3:]]),
        Row("crc32-memory", size, present, sums),
        Row("crc32-file", size, cached, sums),
        Row("copy-to-file", size, to_file, [cp, *copies]),
        Row("copy-to-memory", size, to_memory, [cp, into, *copies[:3], *copies[4:]]),
        Row(
            "copy-memory",
            size,
            memories,
            [*copies[:3], Way("mapping to mapping", _copied), body("mem.copy"), body("mem.copy", 2)],
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
    best = min(seconds[way.name] for way in row.ways if way.bare and way.workers == 1)
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
