"""Ends an idle daemon when nobody is connected and nothing would be lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable

from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Mode

log = logging.getLogger(__name__)


def held_s(
    mode: Mode, mode_ends_s: float | None, ended: Iterable[Job], *, keep_s: float, now_s: float
) -> float:
    """Return for how many seconds an idle daemon still holds what would be lost with it; 0 = nothing.

    A mode holds the daemon until the mode ends, forever if it has no end: somebody asked for it
    until they say otherwise. The result of a detached job holds the daemon as long as
    results are kept. The result of a job that a client waited for was sent already.

    Args:
        mode_ends_s: None = never.
        ended: the ended jobs that are remembered.
        keep_s: how long they are remembered.
        now_s: a time of CLOCK_BOOTTIME, like all of these.
    """
    ends_s = [job.ended_boot_s + keep_s for job in ended if job.detached]
    if mode is not Mode.AUTO:
        ends_s.append(math.inf if mode_ends_s is None else mode_ends_s)
    return max(0.0, max(ends_s, default=now_s) - now_s)


class IdleEnd:
    """The one timer by which an idle daemon ends.

    Args:
        held_s: returns for how long something would be lost, as `held_s` does.
        stop: ends the daemon.
    """

    def __init__(self, held_s: Callable[[], float], stop: Callable[[], object]) -> None:
        """Needs the running loop. Nothing happens before `idle`."""
        self._held_s = held_s
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def idle(self, exit_s: float) -> None:
        """End the daemon if it is idle for `exit_s` from now on; 0 = it is not idle, or never ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if exit_s:
            self._timer = self._loop.call_later(exit_s, self._on_over)

    def _on_over(self) -> None:
        self._timer = None
        left_s = self._held_s()
        if not left_s:
            self._stop()
            return
        log.info("idle_held seconds=%g", left_s)
        if left_s < math.inf:
            # Checked again then, since this loop's clock stands still while the machine sleeps.
            self._timer = self._loop.call_later(left_s, self._on_over)
