"""The same work as our helpers', by plain processes.

    python -m tests.bench.interference.work unit WHAT
    python -m tests.bench.interference.work pool COUNT WHAT

WHAT is "burn", which uses CPU time like selftest.spin, or a path, whose
CRC-32 is computed like file.crc32. `unit` does it once, `pool` endlessly
in a ProcessPoolExecutor, and prints "ready" as soon as each of its processes works.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from isal.isal_zlib import crc32

_BURN_NS = 200_000_000
_QUANTUM = 2 << 20
"""As large as the steps of ktaskd's workers."""


def unit(what: str) -> int:
    """Do one unit; returns a value that depends on the work."""
    return _burn() if what == "burn" else _sum(what)


def _burn() -> int:
    until = time.thread_time_ns() + _BURN_NS
    turns = 0
    while time.thread_time_ns() < until:
        turns += 1
    return turns


def _sum(path: str) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        value = 0
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory, memoryview(memory) as whole:
            for start in range(0, len(whole), _QUANTUM):
                with whole[start : start + _QUANTUM] as piece:
                    value = crc32(piece, value)
        return value
    finally:
        os.close(fd)


def pool(count: int, what: str) -> None:
    """Keep this many processes busy, forever."""
    with ProcessPoolExecutor(count) as executor:
        pending = {executor.submit(unit, what) for _ in range(2 * count)}
        said = 0
        while True:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            pending |= {executor.submit(unit, what) for _ in done}
            if said < count <= said + len(done):
                print("ready", flush=True)
            said += len(done)


def _main(words: list[str]) -> None:
    if words[0] == "unit":
        unit(words[1])
    else:
        pool(int(words[1]), words[2])


if __name__ == "__main__":
    _main(sys.argv[1:])
