"""Full garbage collections that stay short, however many jobs there are.

Python looks through everything it holds in a full collection, and ten thousand
jobs took it 0.2 to 0.5 s (measured), in which nobody is answered. What has just
survived one that took long will mostly live on: it is frozen, and not looked at
again. It is freed all the same when the last reference to it goes; only what
refers to itself is not, so that all is looked through once when there is time.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from ktaskd.host.libc import trim_heap

LONG_S = 0.005
"""A collection that takes longer is not to be repeated with the same objects."""

REST_S = 1.0
"""So long after its last job the daemon has time to look through everything."""


class Garbage:
    """Watches the collector from `start` to `stop`."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self.frozen = 0
        """How often something was frozen since all was looked through."""
        self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Freeze what is loaded by now, and watch."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Watch no more."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
        self._cancel()

    def look_through_soon(self, busy: Callable[[], object]) -> None:
        """Look through everything as soon as the daemon has not been busy for REST_S."""
        self._cancel()
        if self.frozen:
            self._timer = asyncio.get_running_loop().call_later(REST_S, self._on_rested, busy)

    def _on_rested(self, busy: Callable[[], object]) -> None:
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
        """If anything was frozen: find what refers to itself, give free memory back; takes 0.1 s."""
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
