"""Wakes those who wait for changes of jobs: a few in each turn of the loop, accounts in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from ktaskd.jobs.job import Job

WAKES_PER_TURN = 8
"""Who is woken makes a message, which takes some 0.3 ms. A job may have thousands of watchers, and
all of them at once would hold the loop for a second."""


class Herald:
    """Sets the events of waiters, in the order in which their accounts have their turn."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._queues: dict[int, dict[asyncio.Event, None]] = {}
        self._woken = 0
        self._turn: asyncio.Handle | None = None

    @contextmanager
    def changes(self, job: Job, account: int) -> Iterator[asyncio.Event]:
        """An event that is set soon after every change of the job."""
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
        """Set it now, where few were set in this turn; else it waits in the queue of its account."""
        if not self._queues and self._woken < WAKES_PER_TURN:
            event.set()
            self._woken += 1
        else:
            self._queues.setdefault(account, {})[event] = None
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn, self._woken = None, 0
        while self._queues and self._woken < WAKES_PER_TURN:
            account = next(iter(self._queues))
            queue = self._queues.pop(account)
            event = next(iter(queue))
            del queue[event]
            if queue:
                self._queues[account] = queue  # behind the others
            event.set()
            self._woken += 1
        if self._woken:
            self._turn = asyncio.get_running_loop().call_soon(self._next_turn)

    def _forget(self, account: int, event: asyncio.Event) -> None:
        queue = self._queues.get(account, {})
        queue.pop(event, None)
        if not queue:
            self._queues.pop(account, None)
