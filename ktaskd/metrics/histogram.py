"""A histogram of durations, as Prometheus counts them. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0, 1800.0, 7200.0)
"""Upper bounds of the buckets: from a job that takes a millisecond to one of hours."""


class Histogram:
    """Counts durations by buckets, and their sum.

    Args:
        bounds: upper bounds of the buckets, ascending; a last bucket has all that is longer.
    """

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        """Start with nothing counted."""
        self.bounds = (*bounds, math.inf)
        self.sum_s = 0.0
        self._counts = [0] * len(self.bounds)

    def add(self, seconds: float) -> None:
        """Count one duration. A negative one, after the clock was set back, counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound as text, with the number of durations up to that bound."""
        names = ("+Inf" if math.isinf(bound) else repr(bound) for bound in self.bounds)
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))
