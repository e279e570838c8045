"""How long to wait before a dead worker is started again. Pure."""

from __future__ import annotations

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
STABLE_S = 0.5
"""Seconds. A worker that lived this long, or that died at work, did not fail at its start."""


def respawn_delay(*, lived_s: float, was_busy: bool, early_deaths: int) -> tuple[float, int]:
    """Seconds to wait before the next start, and the new count of early deaths.

    A worker that dies at work is replaced at once, however often, since the job that kills it has
    a limited number of attempts. Only a worker that dies idle and right after its start, for
    example because of a broken installation, is delayed longer each time.
    """
    if was_busy or lived_s >= STABLE_S:
        return 0.0, 0
    return min(BACKOFF_FIRST_S * 2**early_deaths, BACKOFF_MAX_S), min(early_deaths + 1, 16)
