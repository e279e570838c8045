"""Chooses between two ways to do the same work by how long the last quanta took.

Which way is best depends on the other workers of the job: writes to one file wait for each other at
the lock of its inode, page faults do not. Nobody knows that in advance, but it can be measured.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

TRIED_AGAIN = 64, 512
"""Quanta until the slower way is tried again: at first, and at most; doubled each time. Alone,
trying it costs 1 to 2 % of a job of 1 GiB."""


LOOKED_AT = 6
"""The least cost of this many quanta counts: a worker that was kept off its CPU is not slow for that."""

MARGIN = 1.2
"""How much more the way in use must cost before it is left."""


class Fastest:
    """Two ways, the first of which is the faster one for a worker that is alone.

    Args:
        clock: in ns.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """Begin with the first way."""
        self._clock = clock
        self._costs = deque[float](maxlen=LOOKED_AT), deque[float](maxlen=LOOKED_AT)
        self._way = 0
        self._left = LOOKED_AT
        """Quanta until the other way is tried."""
        self._pause = TRIED_AGAIN[0]
        self._begun = 0

    def begin(self) -> int:
        """The way for the next quantum, 0 or 1; it begins now."""
        self._begun = self._clock()
        return self._way

    def end(self, count: int) -> None:
        """The quantum is done, which had `count` bytes."""
        self._costs[self._way].append((self._clock() - self._begun) / max(count, 1))
        self._left -= 1
        other = 1 - self._way
        if self._left <= 0 and not self._costs[other]:
            self._way, self._left = other, 1
        elif self._left <= 0 or self._is_dear():
            self._turn(other)

    def _is_dear(self) -> bool:
        """Whether the way in use has cost clearly more than the other one."""
        mine, other = self._costs[self._way], self._costs[1 - self._way]
        return len(mine) == LOOKED_AT and bool(other) and min(mine) > MARGIN * min(other)

    def _turn(self, other: int) -> None:
        """Go on with the way that cost less, or try the other one for one quantum."""
        if min(self._costs[self._way]) > min(self._costs[other]):
            self._way, self._left = other, self._pause
            self._pause = min(2 * self._pause, TRIED_AGAIN[1])
        else:
            self._costs[other].clear()
            self._way, self._left = other, 1
