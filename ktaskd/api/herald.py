"""Wakes watchers of jobs: a few in each iteration of the loop, accounts in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ktaskd.jobs.job import Job

WAKES_AT_ONCE = 8
"""Watchers woken in one iteration of the loop. Each makes a message, which takes about 0.3 ms, and a job may
have thousands of watchers: all of them together would hold the loop for a second."""


class Herald:
    """Sets the events of watchers, one account after the other."""

    def __init__(self) -> None:
        """Start without watchers."""
        self._queues: dict[int, dict[asyncio.Event, None]] = {}
        self._woken = 0
        self._next: asyncio.Handle | None = None

    @contextmanager
    def changes(self, job: Job, account: int) -> Iterator[asyncio.Event]:
        """Give an event that is set soon after every change of the job."""
        event = asyncio.Event()

        def wake(_: Job) -> None:
            if not event.is_set():
                self._wake(account, event)

        job.watch(wake)
        try:
            yield event
        finally:
            job.unwatch(wake)
            self._forget(account, event)

    def _wake(self, account: int, event: asyncio.Event) -> None:
        """Set an event now if few were set in this iteration, or queue it for its account."""
        if not self._queues and self._woken < WAKES_AT_ONCE:
            event.set()
            self._woken += 1
        else:
            self._queues.setdefault(account, {})[event] = None
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._next_iteration)

    def _next_iteration(self) -> None:
        self._next, self._woken = None, 0
        while self._queues and self._woken < WAKES_AT_ONCE:
            account = next(iter(self._queues))
            queue = self._queues.pop(account)
            event = next(iter(queue))
            del queue[event]
            if queue:
                self._queues[account] = queue  # behind the others
            event.set()
            self._woken += 1
        if self._woken:
            self._next = asyncio.get_running_loop().call_soon(self._next_iteration)

    def _forget(self, account: int, event: asyncio.Event) -> None:
        queue = self._queues.get(account, {})
        queue.pop(event, None)
        if not queue:
            self._queues.pop(account, None)
