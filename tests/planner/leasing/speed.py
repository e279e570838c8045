"""How fast virtual workers are, moment by moment. Time is in seconds, work in positions."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

RATE = 4 << 30
"""Positions a second of a worker that has a CPU for itself: bytes of a checksum."""

SEGMENT_S = (0.01, 0.2)
"""A speed lasts as long as this, where speeds change."""

SLOWEST = 0.2
STARVED = 0.15
"""Part of the time in which a helper gets no CPU time, where helpers starve."""


class Speed:
    """The speed of one worker at any time, made as far as it is asked for.

    Args:
        changes: whether it changes; otherwise it stays `factor`.
        starves: whether it is 0 from time to time.
    """

    def __init__(
        self, random: Random, factor: float = 1.0, *, changes: bool = False, starves: bool = False
    ) -> None:
        self._random, self._factor, self._changes, self._starves = random, factor, changes, starves
        self._times, self._done, self._rates = [0.0], [0.0], [self._rate()]

    def _rate(self) -> float:
        if self._starves and self._random.random() < STARVED:
            return 0.0
        part = self._random.uniform(SLOWEST, 1.0) if self._changes else 1.0
        return RATE * self._factor * part

    def _extend(self) -> None:
        length_s = self._random.uniform(*SEGMENT_S) if self._changes or self._starves else 1e9
        self._done.append(self._done[-1] + length_s * self._rates[-1])
        self._times.append(self._times[-1] + length_s)
        self._rates.append(self._rate())

    def done(self, time_s: float) -> float:
        """Positions that it could have done from 0 to a time."""
        while self._times[-1] <= time_s:
            self._extend()
        i = bisect_right(self._times, time_s) - 1
        return self._done[i] + (time_s - self._times[i]) * self._rates[i]

    def when(self, begin_s: float, positions: float) -> float:
        """The time at which it has done so many, if it begins at a time."""
        wanted = self.done(begin_s) + positions
        while self._done[-1] < wanted:
            self._extend()
        i = bisect_right(self._done, wanted) - 1
        while self._rates[i] == 0.0 and self._done[i] >= wanted and self._times[i] > begin_s:
            i -= 1  # it was done before it starved
        rate = self._rates[i]
        return max(begin_s, self._times[i] + (wanted - self._done[i]) / rate if rate else self._times[i])
