"""Gives each lead the priority of the caller that it works for.

A lead does the work of the caller's own thread. So a caller at nice 19, under SCHED_IDLE or with
an idle I/O class gets no lead with a higher priority. A lead keeps its priority until it works for
a caller with another one. A lead that cannot be raised again is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import NoRaiser, Raiser, Worker
from ktaskd.model.priority import Priority

log = logging.getLogger(__name__)

AGAIN_S = 0.1
"""The kernel accepts one change of an autogroup in this time. Source: kernel/sched/autogroup.c"""

SetPriority = Callable[[int, Priority], Mapping[str, OSError]]
"""Sets the priority of a process; returns what could not be set."""


class StandIns:
    """Changes the priority of leads."""

    def __init__(self, set_: SetPriority) -> None:
        """Start without leads. Needs the running loop."""
        self.raiser: Raiser = NoRaiser()
        """Moves a lead into the helpers' scheduling group, for a caller under SCHED_IDLE, and back."""
        self._set = set_
        self._loop = asyncio.get_running_loop()

    def fit(self, lead: Worker, job: Job) -> bool:
        """Give a lead the priority of the job's caller; return whether it has that now."""
        if not lead.is_lead or lead.has_priority_for(job.caller.priority):
            return True
        return self._change(lead, job.caller.priority.standing_in(lead.base))

    def follow(self, job: Job) -> None:
        """Give a busy lead the priority of its caller, which has changed.

        A lead that cannot be raised continues at its priority, and is replaced after its chunk.
        """
        lead = job.crew.lead
        if lead is not None and lead.pid and not lead.is_dying:
            self.fit(lead, job)

    def replaces(self, lead: Worker, job: Job) -> bool:
        """Replace a lead that cannot have the priority of the job's caller; return whether it is."""
        if self.fit(lead, job):
            return False
        log.info("lead_replaced worker=%d pid=%d reason=priority", lead.id, lead.pid)
        lead.retire()
        return True

    def _change(self, lead: Worker, wanted: Priority) -> bool:
        was_idle, idle = lead.priority.policy == "idle", wanted.policy == "idle"
        failed: dict[str, OSError] = {}
        if was_idle and not idle and not lead.memory_group and not self.raiser.raise_(lead.pid):
            return False
        if idle and not was_idle and not lead.memory_group:
            self.raiser.lower(lead.pid)  # reverts as much as it can; the remainder is set below
        failed.update(self._set(lead.pid, wanted))
        rises = _rises(lead.priority, wanted)
        if rises and failed:
            return False
        self._note(lead, wanted, failed)
        return True

    def _note(self, lead: Worker, wanted: Priority, failed: Mapping[str, OSError]) -> None:
        """Record and show the lead's present priority; try again later what the kernel refused for now."""
        lead.priority = wanted
        if any(isinstance(error, BlockingIOError) for error in failed.values()):
            self._loop.call_later(AGAIN_S, self._again, lead, wanted)
        missing = [f"{what}: {error.strerror}" for what, error in failed.items()]
        autogroup = lead.applied.autogroup_nice
        if autogroup is not None and not any("autogroup" in what for what in failed):
            autogroup = 19 if wanted.policy == "idle" else wanted.nice
        lead.applied = replace(
            lead.applied,
            policy=wanted.policy,
            nice=wanted.nice,
            ioprio=wanted.ioprio,
            autogroup_nice=autogroup,
            missing=(*lead.own_missing, *missing),
        )

    def _again(self, lead: Worker, wanted: Priority) -> None:
        if lead.priority == wanted and lead.pid and not lead.is_dying:
            self._note(lead, wanted, self._set(lead.pid, wanted))


def _rises(before: Priority, after: Priority) -> bool:
    """Whether a change asks for more CPU time or disk time than before."""
    up = after.nice < before.nice or (before.policy == "idle") > (after.policy == "idle")
    return up or (before.ioprio != after.ioprio and before.ioprio == "idle")
