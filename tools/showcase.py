"""Three functions on a file and on memory, with one worker and with all, as a table."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import ktask

from tools import checks

ROUNDS = 3
"""Runs with one worker and with all, in turn."""

ROW_S = 6.0
"""No new round of a row begins after this long, so that the demo also ends on a slow machine."""

_VALUE = 0xA5
"""The value to fill with: not 0, which new pages have without any work."""

_BLOCK = 16 << 20
_STRIPE = 1 << 20
_STAMP = 16

_COLUMNS = "{:<19} {:>13} {:>13} {:>14} {:>9}  {}"

Target = ktask.Memory | ktask.File


@dataclass(frozen=True, slots=True)
class Place:
    """Files or memory, on which the functions are shown.

    Args:
        source: `size` bytes to read.
        new: makes a target of this many bytes, removed at the end of its context.
    """

    name: str
    client: ktask.Client
    source: Target
    size: int
    new: Callable[[int], AbstractContextManager[Target]]


@dataclass(frozen=True, slots=True)
class Run:
    """One job: how long its caller waited, how many workers it had, whether the result was right."""

    seconds: float
    threads: int
    right: bool


def show_functions(client: ktask.Client, directory: Path, size: int) -> bool:
    """Print the table; returns whether every result was right."""
    cpus = max(2, len(os.sched_getaffinity(0)))
    print(f"Times are medians of at most {ROUNDS} rounds, after one to warm up; every run is checked.")
    print("Copies and fills get a new target each time; the times include getting and clearing its pages.\n")
    print(_COLUMNS.format("function", "bytes", "1 worker (s)", f"{cpus} workers (s)", "speed-up", "check"))
    path = directory / "source"
    make_file(path, size)
    with ktask.file(path) as file:
        place = Place("file", client, file, size, lambda length: _new_file(directory / "target", length))
        right = _show_place(place, cpus)
    with ktask.memory(size) as memory:
        _load(memory, path)
        path.unlink()
        # Memory has its length from the start.
        place = Place("memory", client, memory, size, lambda _: ktask.memory(size))
        right = _show_place(place, cpus) and right
    # Two plain processes that copy into one file of ext4 are no faster than one.
    print("\nMost disk file systems let one writer at a time into a file, so copies to one gain little.")
    return right


def make_file(path: Path, size: int) -> None:
    """Write a file without holes whose pieces look random and differ from each other."""
    block = memoryview(os.urandom(_BLOCK + _STRIPE))
    with path.open("wb", buffering=0) as file:
        for number in range(-(-size // _STRIPE)):
            offset = number * _STRIPE % _BLOCK
            stamp = number.to_bytes(_STAMP, "little")
            os.writev(file.fileno(), [stamp, bytes(block[offset : offset + _STRIPE - _STAMP])])
        file.truncate(size)


@contextlib.contextmanager
def _new_file(path: Path, length: int) -> Iterator[ktask.File]:
    try:
        with ktask.file(path, "rw") as file:
            os.ftruncate(file.fileno(), length)
            yield file
    finally:
        path.unlink(missing_ok=True)


def _load(memory: ktask.Memory, path: Path) -> None:
    """Put a file's bytes into memory of the same size."""
    with path.open("rb", buffering=0) as file, memoryview(memory) as view:
        done = 0
        while done < len(view):
            with view[done : done + _BLOCK] as piece:
                done += file.readinto(piece) or 0


def _show_place(place: Place, cpus: int) -> bool:
    # This also brings a file into the page cache, for both numbers of workers alike.
    wanted = checks.crc32(place.source.fileno())
    rows: list[tuple[str, str, Callable[[int], Run]]] = [
        ("file.crc32", "zlib.crc32", lambda threads: _crc32(place, threads, wanted)),
        ("file.copy", "same bytes", lambda threads: _copy(place, threads)),
        ("mem.fill", "every byte", lambda threads: _fill(place, threads)),
    ]
    # A list, so that all rows are shown even if one is wrong.
    return all([_show_row(f"{name} {place.name}", how, place.size, run, cpus) for name, how, run in rows])


def _crc32(place: Place, threads: int, wanted: int) -> Run:
    begin = time.perf_counter()
    job = place.client.run("file.crc32", data=place.source, max_threads=threads)
    seconds = time.perf_counter() - begin
    result = job.result or {}
    return _run(job, seconds, result.get("crc32") == wanted and result.get("bytes") == place.size)


def _copy(place: Place, threads: int) -> Run:
    with place.new(0) as target:
        begin = time.perf_counter()
        job = place.client.run("file.copy", src=place.source, dst=target, max_threads=threads)
        seconds = time.perf_counter() - begin
        return _run(job, seconds, checks.same_bytes(place.source.fileno(), target.fileno(), place.size))


def _fill(place: Place, threads: int) -> Run:
    with place.new(place.size) as target:
        begin = time.perf_counter()
        job = place.client.run("mem.fill", arg={"value": _VALUE}, data=target, max_threads=threads)
        seconds = time.perf_counter() - begin
        return _run(job, seconds, checks.all_bytes(target.fileno(), place.size, _VALUE))


def _run(job: ktask.Job, seconds: float, right: bool) -> Run:
    return Run(seconds, job.plan.threads if job.plan else 0, right)


def _show_row(name: str, how: str, size: int, run: Callable[[int], Run], cpus: int) -> bool:
    begin = time.monotonic()
    runs = [run(cpus)]
    alone: list[float] = []
    together: list[float] = []
    for _ in range(ROUNDS):
        runs += [run(1), run(cpus)]
        alone.append(runs[-2].seconds)
        together.append(runs[-1].seconds)
        if time.monotonic() - begin > ROW_S:
            break
    one, all_of_them = statistics.median(alone), statistics.median(together)
    right = all(each.right for each in runs)
    check = f"{_verdict(right)} {how}"
    if runs[-1].threads != cpus:
        check += f" ({runs[-1].threads} of {cpus} workers planned)"
    times = f"{one:.3f}", f"{all_of_them:.3f}", f"{one / all_of_them:.2f}"
    print(_COLUMNS.format(name, size, *times, check))
    return right


def _verdict(right: bool) -> str:
    return paint("ok", 32) if right else paint("WRONG", 31)


def paint(text: str, colour: int) -> str:
    """Text in a colour of ECMA-48; unchanged if there is no terminal, or NO_COLOR is set.

    Source: https://no-color.org
    """
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"
