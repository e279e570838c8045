"""Gives memory back to the machine after a load is over.

What gRPC and Python have freed stays with the process, as much as the load had
taken: glibc keeps free pages in each thread's arena.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

REST_S = 1.0
"""How long it has to be quiet."""

WORTH_BYTES = 8 * 1024 * 1024
"""Growth since the last time that is worth the look."""


class GivingBack:
    """Trims the heap when it has grown, or much was let go of, and nothing is held any more.

    Args:
        size: bytes of memory that the process has.
        trim: gives free pages back; runs in a thread, since it takes 10 ms for 100 MiB.
        held: bytes that are held for clients, and will be let go.
    """

    def __init__(self, size: Callable[[], int], trim: Callable[[], object], held: Callable[[], int]) -> None:
        """Nothing has grown. Needs the running loop from the first note on."""
        self._size = size
        self._trim = trim
        self._held = held
        self._least = size()
        self._freed = 0
        """Bytes that were let go of since the last time: what a trim found in use then may be free now."""
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Future[object] | None = None

    def note(self, freed: int = 0) -> None:
        """Something was let go of; `freed` are the bytes of it, as far as they are known."""
        self._freed += max(freed, 0)
        if self._timer is None and self._trimming is None:
            self._timer = asyncio.get_running_loop().call_later(REST_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._freed < WORTH_BYTES and self._size() < self._least + WORTH_BYTES:
            return
        if self._held() > WORTH_BYTES:
            self.note()
            return
        try:
            self._trimming = asyncio.get_running_loop().run_in_executor(None, self._trim)
        except RuntimeError:
            # The machine has no thread to give now.
            self.note()
            return
        self._freed = 0
        self._trimming.add_done_callback(self._on_trimmed)

    def _on_trimmed(self, _: object) -> None:
        self._trimming = None
        # What lives is not free: only what comes on top of it is looked at.
        self._least = self._size() - self._held()
