"""The calls of one connection, as its bytes tell, among those of its uid."""

from __future__ import annotations

from collections.abc import Callable

from ktaskd.door.turns import Queue, Ticket


class Calls:
    """Counts them, and has each wait for its turn.

    Invariant: all in the set are inside, but for one while there is a ticket.
    """

    __slots__ = ("_open", "_ticket", "_unbegun", "queue")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._open: set[int] = set()
        self._unbegun = 0
        self._ticket: Ticket | None = None

    @property
    def waits(self) -> bool:
        """Whether a call waits for its turn."""
        return self._ticket is not None

    def begin(self, stream: int, go: Callable[[], None]) -> bool:
        """Whether a call may come in now; else `go` is called when it is in."""
        if stream in self._open:
            return True
        self._open.add(stream)

        def on_turn() -> None:
            self._ticket = None
            self._unbegun += 1
            go()

        self._ticket = self.queue.ask(on_turn, call=True)
        if self._ticket is None:
            self._unbegun += 1
        return self._ticket is None

    def began(self) -> None:
        """A handler has begun with one of them."""
        if self._unbegun:
            self._unbegun -= 1
            self.queue.began()

    def end(self, stream: int) -> None:
        """One has ended; one that is not known does no harm."""
        if stream in self._open:
            self._open.remove(stream)
            self._ended(1)

    def _ended(self, count: int) -> None:
        """So many have just left the set."""
        inside = len(self._open) - (self._ticket is not None)
        unbegun = max(self._unbegun - inside, 0)
        self._unbegun -= unbegun
        self.queue.ended(count, unbegun)

    def end_all(self) -> None:
        """The connection is over."""
        if self._ticket is not None:
            self._ticket.cancel()
        count = len(self._open) - (self._ticket is not None)
        self._ticket = None
        self._open.clear()
        self._ended(count)
