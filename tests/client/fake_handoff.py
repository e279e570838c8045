"""A handoff socket that keeps the descriptors it gets."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

from ktask.v1 import handoff as wire

WAIT_S = 20.0


class FakeHandoff:
    """The handoff socket: keeps descriptors, refuses a request only if `refuse` is set."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Condition()
        self._fds: dict[str, int] = {}
        self.flags: list[int] = []
        self.hands = 0
        self.refuse: wire.Refused | None = None
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(WAIT_S)

    def cut(self) -> None:
        """Close all connections."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # its client has closed it already
                    connection.shutdown(socket.SHUT_RDWR)
            self._connections.clear()

    def fd_of(self, handle: str) -> int | None:
        with self._lock:
            return self._fds.get(handle)

    @property
    def held(self) -> int:
        """Descriptors held now."""
        with self._lock:
            return len(self._fds)

    def wait_until_held(self, count: int) -> None:
        with self._lock:
            assert self._lock.wait_for(lambda: len(self._fds) == count, WAIT_S), f"{len(self._fds)} held"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        mine: list[str] = []
        with connection:
            while True:
                try:
                    data, fds, _, _ = socket.recv_fds(connection, wire.REQUEST_BYTES_MAX, wire.FDS_MAX)
                except OSError:
                    break
                if not data:
                    break
                connection.send(wire.encode_reply(self._answer(wire.decode_request(data), fds, mine)))
        self._close(mine)

    def _answer(self, request: wire.Request, fds: list[int], mine: list[str]) -> wire.Reply:
        if isinstance(request, wire.Drop):
            self._close(list(request.handles))
            return wire.Dropped(request.number, len(request.handles))
        assert len(fds) == len(request.flags)
        if self.refuse is not None:
            for fd in fds:
                os.close(fd)
            return wire.Refused(request.number, self.refuse.reason, self.refuse.message, self.refuse.index)
        handles = [os.urandom(16).hex() for _ in fds]
        with self._lock:
            self.hands += 1
            self.flags += request.flags
            self._fds.update(zip(handles, fds, strict=True))
        mine += handles
        return wire.Handles(request.number, tuple(handles))

    def _close(self, handles: list[str]) -> None:
        with self._lock:
            for fd in [self._fds.pop(handle) for handle in handles if handle in self._fds]:
                os.close(fd)
            self._lock.notify_all()
