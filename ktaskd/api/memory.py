"""Reads how much private memory each worker has, without holding up the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import psutil

PATIENCE_S = 0.3
"""How long a status waits for the reading; after that it shows the previous values."""


class PrivateMemory:
    """Private bytes by pid, from the last reading.

    The kernel walks the mappings of a process and takes a lock, which a
    starved worker may hold. So a thread reads the values, one reading at a time.
    """

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        """Nothing is read yet; `pids` returns the processes to read."""
        self._pids = pids
        self._bytes: dict[int, int] = {}
        self._reading: asyncio.Future[dict[int, int]] | None = None

    async def refresh(self) -> None:
        """Read again, unless it takes too long."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(asyncio.to_thread(_read_all, tuple(self._pids())))
        with contextlib.suppress(TimeoutError, RuntimeError):  # the latter if no thread can be started
            self._bytes = await asyncio.wait_for(asyncio.shield(self._reading), PATIENCE_S)

    def of(self, pid: int) -> int:
        """Private bytes of a process; 0 if not known."""
        return self._bytes.get(pid, 0)


def _read_all(pids: Sequence[int]) -> dict[int, int]:
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):
            found[pid] = int(psutil.Process(pid).memory_full_info().uss)
    return found
