"""The same work without a daemon: plain processes that share a mapping.

The gain of two processes over one is the most that this machine allows. Run as a
program, this module is one of them: it executes requests, and prints "done".
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from isal.isal_zlib import crc32

_QUANTUM = 2 << 20
"""As large as the steps of ktaskd's workers."""

_PIECE = 256 << 10
"""Bytes that "read" reads at once: fits any L2 cache."""

_MADV_POPULATE_WRITE = 23
"""Source: madvise(2), since Linux 5.14"""


class Helpers:
    """Some processes, and jobs for them."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        """Use these."""
        self._processes = processes

    def share(self, fd: int) -> None:
        """Map a file of this process in each of them, in place of the previous one."""
        for process in self._processes:
            _tell(process, f"map /proc/{os.getpid()}/fd/{fd}")
        for process in self._processes:
            _hear(process)

    def open(self, path: Path) -> None:
        """Open a file in each of them, for "read"."""
        for process in self._processes:
            _tell(process, f"open {path}")
        for process in self._processes:
            _hear(process)

    def time(self, work: str, size: int, count: int) -> float:
        """Seconds until `count` of them have done `work` on a part of [0, size) each."""
        used = self._processes[:count]
        part = size // count
        begin = time.perf_counter()
        for i, process in enumerate(used):
            _tell(process, f"{work} {i * part} {size if i == count - 1 else (i + 1) * part}")
        for process in used:
            _hear(process)
        return time.perf_counter() - begin


@contextmanager
def helpers(count: int) -> Iterator[Helpers]:
    """This many processes, ended at the end."""
    with ExitStack() as end:
        words = [sys.executable, "-m", "tests.bench.plain"]
        yield Helpers(
            [
                end.enter_context(
                    subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
                for _ in range(count)
            ]
        )


def _tell(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words + "\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline() != "done\n":
        raise RuntimeError("a plain process has failed")


def _map(path: str) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(fd, 0)
    finally:
        os.close(fd)


def _read(fd: int, start: int, end: int) -> None:
    value, buffer = 0, memoryview(bytearray(_PIECE))
    while start < end and (count := os.preadv(fd, [buffer[: end - start]], start)):
        value, start = crc32(buffer[:count], value), start + count


def _sum(memory: mmap.mmap, start: int, end: int) -> None:
    value = 0
    with memoryview(memory) as whole:
        for position in range(start, end, _QUANTUM):
            with whole[position : min(end, position + _QUANTUM)] as piece:
                value = crc32(piece, value)


def _fill(memory: mmap.mmap, start: int, end: int) -> None:
    anchor = ctypes.c_char.from_buffer(memory)
    base = ctypes.addressof(anchor)
    for position in range(start, end, _QUANTUM):
        length = min(end, position + _QUANTUM) - position
        memory.madvise(_MADV_POPULATE_WRITE, position, length)
        ctypes.memset(base + position, 7, length)
    del anchor


def _main() -> None:
    memory: mmap.mmap | None = None
    fd = -1
    for line in sys.stdin:
        work, *words = line.split()
        if work == "map":
            if memory is not None:
                memory.close()
            memory = _map(words[0])
        elif work == "open":
            fd = os.open(words[0], os.O_RDONLY)
        elif work == "read":
            _read(fd, int(words[0]), int(words[1]))
        else:
            assert memory is not None, "a file is mapped before any work"
            {"crc32": _sum, "fill": _fill}[work](memory, int(words[0]), int(words[1]))
        print("done", flush=True)


if __name__ == "__main__":
    _main()
