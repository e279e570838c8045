"""Counts the time that jobs wait, by reason: a look at the jobs once a second while there are any."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence

from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Reason

LOOK_S = 1.0
"""Seconds between two looks."""

LOOK_JOBS = 300
"""Jobs that one look examines, which takes a millisecond. Of more jobs than that it takes a random part."""


class Waits:
    """Looks at the jobs that have not ended. Sets no timer while there are none.

    Args:
        jobs: returns the jobs that have not ended.
        reasons: returns the present reasons of one job.
        add: called with the code of a reason and the seconds to count for it.
    """

    def __init__(
        self,
        jobs: Callable[[], Sequence[Job]],
        reasons: Callable[[Job], Iterable[Reason]],
        add: Callable[[str, float], None],
    ) -> None:
        """Needs the running loop."""
        self._jobs, self._reasons, self._add = jobs, reasons, add
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._looked_s = 0.0

    def note_job(self) -> None:
        """Begin to look, unless that has begun."""
        if self._timer is None:
            self._looked_s = self._loop.time()
            self._timer = self._loop.call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now_s, jobs, self._timer = self._loop.time(), self._jobs(), None
        if not jobs:
            return
        picked = jobs if len(jobs) <= LOOK_JOBS else random.sample(jobs, LOOK_JOBS)
        seconds = (now_s - self._looked_s) * len(jobs) / len(picked)
        for job in picked:
            for code in {reason.code for reason in self._reasons(job)}:
                self._add(code, seconds)
        self._looked_s = now_s
        self._timer = self._loop.call_later(LOOK_S, self._look)
