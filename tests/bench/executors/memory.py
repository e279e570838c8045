"""The memory that a piece of work takes, in all processes that take part in it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

LOOK_S = 0.01


def added(work: Callable[[], object], also: int) -> float:
    """MiB that this process, its children and those of process `also` have more at the peak of `work`."""
    before, peak = total(also), 0
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, total(also))
            done.wait(LOOK_S)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(peak - before, 0) / (1 << 20)


def total(also: int) -> int:
    """Bytes that all these processes have, shared pages once; also memory files that nobody has mapped."""
    own, shared = 0, 0
    files: dict[int, int] = {}
    for pid in {one.pid for root in (os.getpid(), also) for one in _family(root)}:
        with contextlib.suppress(OSError):
            parts = dict(_sizes(Path(f"/proc/{pid}/smaps_rollup")))
            own += parts["Pss"] - parts["Pss_Shmem"]
            shared += parts["Pss_Shmem"]
            files.update(_memory_files(pid))
    return own + max(shared, sum(files.values()))


def _family(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _sizes(file: Path) -> Iterator[tuple[str, int]]:
    for line in file.read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        yield name, int(value.split()[0]) * 1024


def _memory_files(pid: int) -> Iterator[tuple[int, int]]:
    """Number and size of each memfd that a process has open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith("/memfd:"):
                facts = os.stat(link)
                yield facts.st_ino, 512 * facts.st_blocks
