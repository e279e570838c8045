"""The client's end of the handoff socket: sends descriptors, gets handles for them."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ktask.errors import KtaskError
from ktask.link.kept import KeptObjects, identity_of, may_be_kept
from ktask.link.locate import open_unix
from ktask.source import File, Memory
from ktask.v1 import handoff as wire

_REPLY_TIMEOUT_S = 30.0
"""The daemon gives up on a descriptor that blocks after a few seconds."""

_IN_FLIGHT_PAUSE_S = 0.005

_CODES = {
    "FD_UNSUITABLE": "FAILED_PRECONDITION",
    "QUOTA_FULL": "RESOURCE_EXHAUSTED",
    "KEEPER_SILENT": "UNAVAILABLE",
    "PROTOCOL_INVALID": "INTERNAL",
}

_NUMBER_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class _Kept:
    """A handle, and the finalizer that gives it back if its source is collected without a close."""

    handle: str
    gone: weakref.finalize[..., Any]


class Handover:
    """One connection to the handoff socket, opened when first needed. Thread-safe.

    Memory and files are handed over once and kept until they are closed or
    collected. Handles end with their connection. When it breaks, all of them are
    forgotten and `generation` changes.
    """

    def __init__(self, path: str) -> None:
        """Connect to nothing yet."""
        self._path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._number = 0
        self._handles: weakref.WeakKeyDictionary[Memory | File, _Kept] = weakref.WeakKeyDictionary()
        self._objects = KeptObjects()
        self._unwanted: deque[tuple[int, str]] = deque()
        self.generation = 0

    def handle_of(self, source: Memory | File) -> str:
        """The handle of memory or a file, handed over at the first call.

        Raises:
            KtaskError: the daemon refuses it, or cannot be reached.
        """
        with self._lock:
            self._notice_end()
            known = self._handles.get(source)
            if known is not None:
                return known.handle
            (handle,) = self._hand([(source.fileno(), wire.OWN_OFFSET)])
            gone = weakref.finalize(source, _discard, weakref.ref(self), self.generation, handle)
            gone.atexit = False
            self._handles[source] = _Kept(handle, gone)
            stale = self._objects.take_stale()
        source.call_on_close(self._on_close)
        self.discard(stale)
        return handle

    def handle_of_object(self, source: Any, fd: int) -> str | None:
        """The handle of memory behind an object of another type, which has this descriptor now.

        It is handed over once, and again when the descriptor is open on something else.

        Returns:
            None if its handle cannot be kept, or as many are as may be: `hand_over` it.
        Raises:
            KtaskError: the daemon refuses it, or cannot be reached.
        """
        identity = identity_of(fd)
        if identity is None or not may_be_kept(source):
            return None
        with self._lock:
            self._notice_end()
            handle = self._objects.find(source, identity)
            if handle is None and not self._objects.is_full:
                (handle,) = self._hand([(fd, 0)])
                on_gone = partial(_discard, weakref.ref(self), self.generation, handle)
                self._objects.add(source, identity, handle, on_gone)
            stale = self._objects.take_stale()
        self.discard(stale)
        return handle

    def hand_over(self, fds: Sequence[tuple[int, int]]) -> list[str]:
        """Handles of descriptors, which stay open here; `discard` the handles after use.

        Args:
            fds: descriptors, each with its flags in the protocol.

        Raises:
            KtaskError: the daemon refuses one, or cannot be reached.
        """
        handles: list[str] = []
        try:
            for i in range(0, len(fds), wire.FDS_MAX):
                with self._lock:
                    self._notice_end()
                    handles += self._hand(fds[i : i + wire.FDS_MAX])
        except BaseException:
            self.discard(handles)
            raise
        with self._lock:
            stale = self._objects.take_stale()
        self.discard(stale)
        return handles

    def discard(self, handles: Sequence[str], generation: int | None = None) -> None:
        """Give handles back; never raises. Jobs that use them keep them."""
        current = self.generation if generation is None else generation
        self._unwanted.extend((current, handle) for handle in handles)
        # The garbage collector may call this in a thread that holds the lock. Then
        # the holder sweeps when it releases the lock, or the next caller does.
        while self._unwanted and self._lock.acquire(blocking=False):
            try:
                self._sweep()
            finally:
                self._lock.release()

    def renewed_since(self, generation: int) -> bool:
        """Whether handles of that generation ended with their connection."""
        with self._lock:
            self._notice_end()
            return self.generation != generation

    def close(self) -> None:
        """Close the connection, which ends all its handles."""
        with self._lock:
            self._reset()

    def abandon(self) -> None:
        """Close the descriptor in a forked child, where the lock may be held forever."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """The socket, readable when the daemon closes it; -1 if not connected."""
        return self._socket.fileno() if self._socket is not None else -1

    def _on_close(self, source: Memory | File) -> None:
        with self._lock:
            kept = self._handles.pop(source, None)
        if kept is not None:
            kept.gone.detach()
            self.discard([kept.handle])

    def _notice_end(self) -> None:
        """Forget a connection that the daemon has closed."""
        if self._socket is None:
            return
        # No reply is due between two requests, so a readable socket means its end.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(0):
            self._reset()

    def _hand(self, fds: Sequence[tuple[int, int]]) -> tuple[str, ...]:
        request = wire.Hand(self._next_number(), tuple(flags for _, flags in fds))
        reply = self._exchange(request, [fd for fd, _ in fds])
        if not isinstance(reply, wire.Handles) or len(reply.handles) != len(fds):
            self._reset()
            raise _broken(self._path, f"{type(reply).__name__} in answer to {len(fds)} descriptors")
        return reply.handles

    def _sweep(self) -> None:
        """Give back handles that nobody needs any more."""
        handles: list[str] = []
        with contextlib.suppress(IndexError):
            while len(handles) < wire.FDS_MAX:
                generation, handle = self._unwanted.popleft()
                if generation == self.generation and self._socket is not None:
                    handles.append(handle)
        if handles:
            # If the connection breaks, its handles end anyway.
            with contextlib.suppress(KtaskError):
                self._exchange(wire.Drop(self._next_number(), tuple(handles)), ())

    def _next_number(self) -> int:
        self._number = self._number % _NUMBER_MAX + 1
        return self._number

    def _exchange(self, request: wire.Request, fds: Sequence[int]) -> wire.Reply:
        """Send one request and read its reply; a broken connection is closed."""
        try:
            connection = self._connected()
            _send(connection, wire.encode_request(request), fds)
            reply = wire.decode_reply(connection.recv(wire.REPLY_BYTES_MAX))
        except (OSError, wire.HandoffInvalid) as error:
            self._reset()
            raise _broken(self._path, str(error) or type(error).__name__) from error
        except BaseException:
            # Interrupted between request and reply: the next request would read this one's reply.
            self._reset()
            raise
        if isinstance(reply, wire.Refused):
            if reply.number != request.number or reply.reason in ("KEEPER_SILENT", "PROTOCOL_INVALID"):
                self._reset()
            raise _refused(reply)
        if reply.number != request.number:
            self._reset()
            raise _broken(self._path, f"reply number {reply.number} in answer to request {request.number}")
        return reply

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = open_unix(self._path, socket.SOCK_SEQPACKET, _REPLY_TIMEOUT_S)
        return self._socket

    def _reset(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._handles.clear()
        self._objects.clear()
        self.generation += 1


def _send(connection: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send a request; wait while too many descriptors of this user are on their way to other processes."""
    until_s = time.monotonic() + _REPLY_TIMEOUT_S
    while True:
        try:
            socket.send_fds(connection, [data], list(fds))
            return
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS or time.monotonic() > until_s:
                raise
        time.sleep(_IN_FLIGHT_PAUSE_S)


def _discard(reference: weakref.ref[Handover], generation: int, handle: str) -> None:
    handover = reference()
    if handover is not None:
        handover.discard([handle], generation)


def _broken(path: str, why: str) -> KtaskError:
    return KtaskError(f'handoff socket "{path}": {why}', code="UNAVAILABLE", reason="HANDOFF_BROKEN")


def _refused(reply: wire.Refused) -> KtaskError:
    metadata = {"index": str(reply.index)} if reply.index >= 0 else {}
    code = _CODES.get(reply.reason, "UNKNOWN")
    return KtaskError(reply.message, code=code, reason=reply.reason, metadata=metadata)
