"""Reads the limits and the priority of callers again and again until their jobs have ended.

A caller's affinity, cpuset, quota and priority may change at any time, and no event tells it:
inotify sees no change of cpu.max. So they are read about once a second, for callers
with a job that has not ended; without one there is no timer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from ktaskd.host.caller import Caller
from ktaskd.host.processes.incarnation import Incarnation
from ktaskd.host.scheduling.priority import ask_priority
from ktaskd.jobs.job import Job
from ktaskd.model.identity import Identity
from ktaskd.model.priority import Priority

log = logging.getLogger(__name__)

FIRST_S = 0.1
PERIOD_S = 1.0
"""Time until the first look at a caller, and between two looks: a change takes effect within twice
this time. A shorter job runs with the limits that were read at the connection."""

AT_ONCE = 8
"""Callers that are read in one turn of the loop: each takes some 0.2 ms, and nothing may
hold the loop for long."""


@dataclass(slots=True)
class _Watched:
    """A caller that has jobs, one for each connection, since each connection has a pidfd."""

    owner: Identity
    process: Incarnation
    caller: Caller
    jobs: dict[Job, None] = field(default_factory=dict)


class Callers:
    """Follows the limits of the callers of jobs that have not ended.

    A caller's process is identified by a pidfd of our own, or by its start time. The connection's
    pidfd is closed with the connection, which a job may outlive. When the process has ended, the
    limits stay as they were read last: a later process with the same pid is another caller.
    """

    def __init__(
        self,
        read: Callable[[int], Caller],
        hold: Callable[[Identity], Incarnation],
        on_limits: Callable[[Job, Caller], None],
        ask: Callable[[int, Priority], Priority] = ask_priority,
    ) -> None:
        """Start without callers. Needs the running loop.

        Args:
            read: returns what the process of this pid may use now.
            hold: takes hold of a caller's process; may raise OSError.
            on_limits: called for each job whose caller's limits have changed.
            ask: returns the priority of a process now, given the one known last. Must be cheap: it is
                called for every new job, however short.
        """
        self._read = read
        self._hold = hold
        self._on_limits = on_limits
        self._ask = ask
        self._notify = self._on_change  # one object for all jobs
        self._watched: dict[int, _Watched] = {}
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        """Return the number of callers that are watched."""
        return len(self._watched)

    def add(self, job: Job) -> None:
        """Watch the job's caller until the job has ended."""
        key = id(job.owner)  # the same object for all calls of a connection, held by us
        watched = self._watched.get(key)
        if watched is None:
            try:
                process = self._hold(job.owner)
            except OSError as error:
                log.warning('caller_not_followed pid=%d error="%s"', job.owner.pid, error)
                return
            priority = self._ask(job.owner.pid, job.caller.priority)
            fresh = job.caller._replace(priority=priority) if process.alive else job.caller
            watched = self._watched[key] = _Watched(job.owner, process, fresh)
        if watched.caller != job.caller:
            self._on_limits(job, watched.caller)
        watched.jobs[job] = None
        job.watch(self._notify)
        if self._timer is None:
            self._timer = self._loop.call_later(FIRST_S, self._tick)

    def _on_change(self, job: Job) -> None:
        if job.state.ended:
            key = id(job.owner)
            watched = self._watched[key]
            watched.jobs.pop(job, None)
            job.unwatch(self._notify)
            if not watched.jobs:
                self._watched.pop(key).process.close()
            if not self._watched:
                self._stop()

    def _tick(self) -> None:
        self._look(iter(tuple(self._watched)))

    def _look(self, keys: Iterator[int]) -> None:
        """Read some callers now, and the others in the next turn of the loop."""
        some = tuple(islice(keys, AT_ONCE))
        for key in some:
            if key in self._watched:
                self._look_at(self._watched[key])
        if not self._watched:
            return
        if some:
            self._timer = self._loop.call_soon(self._look, keys)
        else:
            self._timer = self._loop.call_later(PERIOD_S, self._tick)

    def _look_at(self, watched: _Watched) -> None:
        fresh = self._read(watched.owner.pid)
        # The node that the caller runs on at the moment is no limit.
        fresh = fresh._replace(nid=watched.caller.nid)
        if not fresh.cpus and watched.caller.cpus:
            return  # it could not be read, for want of a descriptor for one
        if fresh == watched.caller or not watched.process.alive:
            return
        watched.caller = fresh
        for job in tuple(watched.jobs):
            self._on_limits(job, fresh)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop watching all callers."""
        self._stop()
        for watched in self._watched.values():
            watched.process.close()
            for job in watched.jobs:
                job.unwatch(self._notify)
        self._watched.clear()
