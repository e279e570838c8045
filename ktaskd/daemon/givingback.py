"""Gives memory back to the machine after a load is over.

Memory that gRPC and Python have freed stays with the process, since glibc keeps
free pages in the arena of each thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

QUIET_S = 1.0
"""Quiet time before memory is given back."""

WORTH_BYTES = 8 * 1024 * 1024
"""Growth since the last trim that makes another one worthwhile."""


class GivingBack:
    """Trims the heap after it has grown, or much was released, once little is held for clients.

    Args:
        size: returns the process's resident memory in bytes.
        trim: gives free pages back; runs in a thread, since it takes 10 ms for 100 MiB.
        held: returns the bytes that are held for clients and will be released.
    """

    def __init__(self, size: Callable[[], int], trim: Callable[[], object], held: Callable[[], int]) -> None:
        """Take the present size as the base. Needs the running loop from the first `note` on."""
        self._size = size
        self._trim = trim
        self._held = held
        self._least = size()
        self._freed = 0
        """Bytes released since the last trim, which may have found them still in use."""
        self._timer: asyncio.TimerHandle | None = None
        self._trimming: asyncio.Future[object] | None = None

    def note(self, freed: int = 0) -> None:
        """Note that something was released; `freed` are its bytes, if they are known."""
        self._freed += max(freed, 0)
        if self._timer is None and self._trimming is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._look)

    def close(self) -> None:
        """Stop checking."""
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
            # No thread can be started now.
            self.note()
            return
        self._freed = 0
        self._trimming.add_done_callback(self._on_trimmed)

    def _on_trimmed(self, _: object) -> None:
        self._trimming = None
        # Live memory cannot be given back, so only growth above it counts.
        self._least = self._size() - self._held()
