"""Holds back the leads of jobs whose caller has used up its CPU quota."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ktaskd.jobs.job import Job
from ktaskd.jobs.pace import Pacer


class Pauses:
    """Holds leads back as long as their callers owe CPU time.

    Args:
        wall: seconds since the epoch.
        on_end: called with a job whose pause is over.
    """

    def __init__(self, wall: Callable[[], float], on_end: Callable[[Job], None]) -> None:
        """Start with no lead held back. Needs the running loop."""
        self.pacer = Pacer()
        self._wall = wall
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()

    def hold_back(self, job: Job) -> bool:
        """Hold the job's lead back if its caller owes CPU time; return whether it does."""
        if job.paced_until_s:
            return True  # its timer is set
        now = self._loop.time()
        delay_s = self.pacer.wait_s((job.owner.uid, job.owner.pid), job.caller.cpu_quota, now)
        if not delay_s:
            job.paced_since_s = 0.0
            return False
        job.paced_until_s = now + delay_s
        job.paced_since_s = job.paced_since_s or self._wall()
        self._loop.call_later(delay_s, self._go_on, job)
        return True

    def _go_on(self, job: Job) -> None:
        job.paced_until_s = 0.0
        if not job.state.ended:
            self._on_end(job)
