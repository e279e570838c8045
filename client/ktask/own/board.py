"""Which calls wait, and which workers are ready for one. The only I/O is that of the tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ktask.own.bursts import Peer
from ktask.own.futures import Call

AHEAD_MAX = 8
"""Most calls that a worker has, with the one that it makes."""
_AHEAD_LEAST = AHEAD_MAX // 2
"""With more than this a worker is sent no further call: several in one message cost less."""


class Board:
    """The calls that wait and the workers that are ready; gives the one to the other.

    A worker that answers quickly is sent some calls ahead, so that it need not wait for each. It
    takes a token before it begins one (`tokens`), and those that it has not begun are taken back as
    soon as another worker is free.

    Attributes:
        queue: calls that no worker has, oldest first.
        ready: workers that have asked for a call, the last one last.
    """

    def __init__(self, max_workers: int) -> None:
        """Empty; at most `max_workers` calls are made at the same time."""
        self._max_workers = max_workers
        self._numbers = 0
        self.queue: deque[Call] = deque()
        self.ready: list[Peer] = []
        self._busy: set[Peer] = set()

    @property
    def in_hand(self) -> int:
        """The number of workers that have a call now."""
        return len(self._busy)

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
        if self.ready and not self.queue:
            for worker in [worker for worker in self._busy if len(worker.calls) > 1]:
                self.take_back(worker)
        while self.queue and self.ready and self.in_hand < self._max_workers:
            call = self.queue.popleft()
            if not call.begin():
                continue
            worker = self._take_ready()
            worker.calls.append(call)
            worker.takes_ahead = True
            worker.burst.began = True
            self._busy.add(worker)
            yield worker, call

    def _take_ready(self) -> Peer:
        """The worker that got ready last, since its caches are warm; a lead before any helper."""
        leads = (i for i in reversed(range(len(self.ready))) if not self.ready[i].is_helper)
        return self.ready.pop(next(leads, -1))

    def send_ahead(self, worker: Peer) -> list[Call]:
        """Calls that a worker is to be sent ahead now, after the one that it has."""
        found: list[Call] = []
        if not (worker.takes_ahead and worker.is_quick) or len(worker.calls) > _AHEAD_LEAST:
            return found
        while self.queue and len(worker.calls) < AHEAD_MAX:
            if not (self.queue[0].may_go_ahead and worker.has_function_of(self.queue[0])):
                break
            call = self.queue.popleft()
            if call.begin():
                worker.calls.append(call)
                found.append(call)
        return found

    def take_back(self, worker: Peer) -> None:
        """Queue the calls again that a worker was sent ahead and has not begun."""
        count = worker.tokens.take_all()
        if count:
            worker.takes_ahead = False  # it drops what it was sent, until it gets a call on request
            self.queue.extendleft(worker.calls.pop() for _ in range(count))
            self._note_calls(worker)

    def answered(self, worker: Peer, number: int) -> Call | None:
        """The call of a worker that has been answered, which has it no more; None if it has another one."""
        if not worker.calls or worker.calls[0].number != number:
            return None
        call = worker.calls.popleft()
        self._note_calls(worker)
        return call

    def lost(self, worker: Peer) -> list[Call]:
        """The calls of a worker that is gone, which has none any more."""
        calls = list(worker.calls)
        worker.calls.clear()
        self._note_calls(worker)
        return calls

    def _note_calls(self, worker: Peer) -> None:
        if not worker.calls:
            self._busy.discard(worker)

    def retire(self, worker: Peer) -> None:
        """Note that a worker wants no call now."""
        if worker in self.ready:
            self.ready.remove(worker)
