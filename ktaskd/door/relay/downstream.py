"""From gRPC to the client: sees which calls end."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ktaskd.door.relay.calls import Calls
from ktaskd.door.relay.frames import DATA, HEADERS, Frames, Mark
from ktaskd.door.relay.pump import Pump


class Downstream(Pump):
    """Passes answers on. Its end is the end of the relay.

    Args:
        on_end: called when gRPC has closed its side, or either socket is broken.
    """

    __slots__ = ()

    def __init__(
        self, calls: Calls, source: socket.socket, sink: socket.socket, on_end: Callable[[], None]
    ) -> None:
        """Nothing is read before `start`."""
        super().__init__(calls, source, sink, Frames(), on_end, on_end)

    def _visit(self, mark: Mark) -> bool:
        if mark.ends:
            self._calls.end(mark.stream)
        elif mark.kind in (DATA, HEADERS):
            self._calls.answered(mark.stream)
        return True
