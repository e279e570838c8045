"""Which calls wait, and which workers are ready for one. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ktask.own.bursts import Peer
from ktask.own.futures import Call


class Board:
    """The calls that wait and the workers that are ready; gives the one to the other.

    Attributes:
        queue: calls that no worker has, oldest first.
        ready: workers that have asked for a call, the last one last.
        in_hand: calls that a worker has now.
    """

    def __init__(self, max_workers: int) -> None:
        """Empty; at most `max_workers` calls are in hand at the same time."""
        self._max_workers = max_workers
        self._numbers = 0
        self.queue: deque[Call] = deque()
        self.ready: list[Peer] = []
        self.in_hand = 0

    def add(self, call: Call) -> None:
        """Number a call and queue it."""
        self._numbers += 1
        call.number = self._numbers
        self.queue.append(call)

    def take_queue(self) -> list[Call]:
        """All calls that wait, which are not queued any more."""
        calls = list(self.queue)
        self.queue.clear()
        return calls

    def assign(self) -> Iterator[tuple[Peer, Call]]:
        """Yield each waiting call with the ready worker that gets it, until either runs out."""
        while self.queue and self.ready and self.in_hand < self._max_workers:
            call = self.queue.popleft()
            if not call.future.set_running_or_notify_cancel():
                continue
            worker = self._take_ready()
            worker.call = call
            worker.burst.began = True
            self.in_hand += 1
            yield worker, call

    def _take_ready(self) -> Peer:
        """The worker that got ready last, since its caches are warm; a lead before any helper."""
        leads = (i for i in reversed(range(len(self.ready))) if not self.ready[i].is_helper)
        return self.ready.pop(next(leads, -1))

    def take_back(self, worker: Peer) -> Call | None:
        """The call of a worker, which has it no more; None if it has none."""
        call, worker.call = worker.call, None
        if call is not None:
            self.in_hand -= 1
        return call

    def retire(self, worker: Peer) -> None:
        """Note that a worker wants no call now."""
        if worker in self.ready:
            self.ready.remove(worker)
