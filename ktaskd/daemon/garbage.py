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

from ktaskd.host.libc import trim_heap

LONG_S = 0.005
"""A collection that takes longer is not to be repeated with the same objects."""

REST_S = 1.0
"""So long after its last job the daemon has time to look through everything."""

TRIM_BYTES = 16 * 1024 * 1024
"""After so much was let go of, free memory is given back, also while jobs run."""

TRIM_REST_S = 10.0
"""Shortest time between two of these: each takes some milliseconds."""


class Garbage:
    """Watches the collector from `start` to `stop`."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self.frozen = 0
        """How often something was frozen since all was looked through."""
        self._began_s = 0.0
        self._freed = 0
        self._trimmed_s = -TRIM_REST_S
        self._trimming: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Freeze what is loaded by now, and watch."""
        gc.collect()
        gc.freeze()
        gc.callbacks.append(self._on_collection)

    def stop(self) -> None:
        """Watch no more."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None

    def freed(self, count: int) -> None:
        """Note that so many bytes were let go of: malloc keeps them unless it is asked for them."""
        self._freed += count
        if self._freed < TRIM_BYTES or self._trimming is not None:
            return
        loop = asyncio.get_running_loop()
        at_s = max(loop.time() + REST_S, self._trimmed_s + TRIM_REST_S)
        self._trimming = loop.call_at(at_s, self._trim)

    def _trim(self) -> None:
        self._trimming, self._freed = None, 0
        self._trimmed_s = asyncio.get_running_loop().time()
        trim_heap()

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
