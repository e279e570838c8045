"""Open sources that the daemon holds for clients, and the handles that name them."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread

from ktaskd.host.sockets.unixsock import close_quietly
from ktaskd.model.errors import HandleUnknown, QuotaFull
from ktaskd.model.source import SourceFacts

CloseFd = Callable[[int], None]
OnGone = Callable[[int], None]

_SIDS = itertools.count(1)

_HANDLE_BYTES = 16
"""Random bytes in a handle; it is twice as many hexadecimal digits."""


def ignore_gone(sid: int) -> None:
    """Do nothing at the end of a source."""


class BackgroundCloser:
    """Closes descriptors in a thread of its own, so that the loop does not wait.

    The last close of a memfd or an unlinked file frees all of it, which takes about
    0.1 s for a GiB. The thread starts with the first call. While no thread can be
    started, descriptors are closed in the calling thread.
    """

    def __init__(self) -> None:
        """Start no thread yet."""
        self._fds: SimpleQueue[int | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._over = False

    def __call__(self, fd: int) -> None:
        """Close `fd` soon; owns it."""
        # After shutdown no client is left that could be kept waiting.
        if not self._over and self._has_thread():
            self._fds.put(fd)
        else:
            close_quietly(fd)

    def shutdown(self) -> None:
        """Wait until all are closed, and end the thread."""
        self._over = True
        if self._thread is not None:
            self._fds.put(None)
            self._thread.join()
            self._thread = None

    def _has_thread(self) -> bool:
        """Start the thread if need be; return whether there is one. Only then are descriptors queued."""
        if self._thread is None:
            thread = Thread(target=self._close_all, name="close", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _close_all(self) -> None:
        while (fd := self._fds.get()) is not None:
            close_quietly(fd)


class HeldSource:
    """Owns one vetted descriptor as long as there are references to it.

    It begins with one reference, which belongs to its maker.

    Args:
        fd: owned from now on.
        uid: the user that handed it over or named the path.
        on_gone: called with the sid when the last reference is released.
        close: gets the descriptor then, as BackgroundCloser does.
    """

    def __init__(
        self,
        fd: int,
        facts: SourceFacts,
        uid: int,
        *,
        on_gone: OnGone = ignore_gone,
        close: CloseFd = close_quietly,
    ) -> None:
        """Become the owner of `fd`."""
        self.sid = next(_SIDS)
        self.fd = fd
        self.facts = facts
        self.uid = uid
        self._on_gone = on_gone
        self._close = close
        self._references = 1

    def acquire(self) -> None:
        """Add a reference. Assumes that there is another one."""
        assert self._references > 0, f"source {self.sid}: acquired when gone"
        self._references += 1

    def release(self) -> None:
        """Remove one reference; the last one closes the descriptor."""
        assert self._references > 0, f"source {self.sid}: released too often"
        self._references -= 1
        if self._references:
            return
        fd, self.fd = self.fd, -1
        self._close(fd)
        self._on_gone(self.sid)


@dataclass(frozen=True, slots=True)
class _Entry:
    source: HeldSource
    connection: int


class HandleTable:
    """Handles by their text: 128 random bits, valid for one uid.

    A handle belongs to the connection that it was made on, and ends with it.
    A source that a job has acquired lives on without its handle, and counts for
    its uid until the job releases it. Uid 0 cannot use the handle of another user: the
    descriptor is the permission, and it was given to that user.
    """

    def __init__(
        self, *, per_uid: int, on_gone: OnGone = ignore_gone, close: CloseFd = close_quietly
    ) -> None:
        """Start empty.

        Args:
            per_uid: limit of one uid for its handles, and the descriptors that its jobs
                still hold after their handles ended.
            on_gone, close: as for HeldSource.
        """
        self.per_uid = per_uid
        self._on_gone = on_gone
        self._close = close
        self._entries: dict[str, _Entry] = {}
        self._of_connection: dict[int, set[str]] = {}
        self._per_uid: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return the number of handles of all uids."""
        return len(self._entries)

    def count(self, uid: int) -> int:
        """Return the number of descriptors that are held for a uid."""
        return self._per_uid[uid]

    def check_room(self, uid: int, count: int) -> None:
        """Raise QuotaFull unless `uid` may have `count` more handles."""
        if self._per_uid[uid] + count > self.per_uid:
            raise QuotaFull(
                f"handles: uid {uid} holds {self._per_uid[uid]}, including those that only its jobs use, and"
                f" {count} more would exceed its limit of {self.per_uid}; drop some, or try again when jobs"
                " have ended",
                limit=str(self.per_uid),
            )

    def add(self, uid: int, connection: int, fd: int, facts: SourceFacts) -> str:
        """Make a handle for `fd`, which it owns in any case; raises as `add_all`."""
        return self.add_all(uid, connection, [(fd, facts)])[0]

    def add_all(self, uid: int, connection: int, opened: Sequence[tuple[int, SourceFacts]]) -> list[str]:
        """Make a handle for each descriptor, all of which it owns in any case.

        Raises:
            QuotaFull: they would exceed the limit of `uid`; they are closed.
        """
        try:
            self.check_room(uid, len(opened))
        except QuotaFull:
            for fd, _ in opened:
                self._close(fd)
            raise
        text = secrets.token_hex(_HANDLE_BYTES * len(opened))
        handles = [text[i : i + 2 * _HANDLE_BYTES] for i in range(0, len(text), 2 * _HANDLE_BYTES)]
        on_gone = partial(self._on_source_gone, uid)
        for handle, (fd, facts) in zip(handles, opened, strict=True):
            source = HeldSource(fd, facts, uid, on_gone=on_gone, close=self._close)
            self._entries[handle] = _Entry(source, connection)
        self._of_connection.setdefault(connection, set()).update(handles)
        self._per_uid[uid] += len(handles)
        return handles

    def resolve(self, handle: str, uid: int) -> HeldSource:
        """Return the source of a handle, for a caller that acquires it.

        Raises:
            HandleUnknown: there is none, or it belongs to another uid.
        """
        entry = self._entries.get(handle)
        if entry is None or entry.source.uid != uid:
            raise HandleUnknown(
                f'handle "{handle[:64]}": not known, or its connection was closed; hand the file over again'
            )
        return entry.source

    def drop(self, handle: str, connection: int) -> None:
        """Forget a handle of this connection; ignore any other."""
        entry = self._entries.get(handle)
        if entry is None or entry.connection != connection:
            return
        handles = self._of_connection[connection]
        handles.discard(handle)
        if not handles:
            del self._of_connection[connection]
        self._forget(handle)

    def drop_connection(self, connection: int) -> None:
        """Forget all handles of this connection."""
        for handle in self._of_connection.pop(connection, set()):
            self._forget(handle)

    def _forget(self, handle: str) -> None:
        self._entries.pop(handle).source.release()

    def _on_source_gone(self, uid: int, sid: int) -> None:
        self._per_uid[uid] -= 1
        if not self._per_uid[uid]:
            del self._per_uid[uid]
        self._on_gone(sid)
