"""Full garbage collections that stay short, however many jobs there are.

A full collection visits every object. With ten thousand jobs it took 0.2 to 0.5 s
(measured), in which nobody gets an answer. Objects that have just survived a long
collection will mostly live on, so they are frozen: later collections pass them over. They
are still freed when their last reference goes, except reference cycles. So when there is
time, one collection visits everything again.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from ktaskd.host.libc import trim_heap

LONG_S = 0.005
"""After a collection that takes longer, the surviving objects are frozen."""

QUIET_S = 1.0
"""Quiet time after the last job, before a collection visits everything."""


class Garbage:
    """Watches the collector from `start` to `stop`."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self.frozen = 0
        """How often objects were frozen since the last collection of everything."""
        self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Freeze all objects that exist now, and watch the collector."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Stop watching the collector."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
        self._cancel()

    def look_through_soon(self, busy: Callable[[], object]) -> None:
        """Collect everything as soon as the daemon has not been busy for QUIET_S."""
        self._cancel()
        if self.frozen:
            self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._on_quiet, busy)

    def _on_quiet(self, busy: Callable[[], object]) -> None:
        self._timer = None
        if busy():
            self.look_through_soon(busy)
        else:
            self.look_through()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look_through(self) -> None:
        """If anything was frozen, collect everything and give free memory back. This takes 0.1 s."""
        if self.frozen:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self.frozen = 0
            trim_heap()

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        elif info["generation"] == 2 and time.perf_counter() - self._began_s > LONG_S:
            gc.freeze()
            self.frozen += 1
