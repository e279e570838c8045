"""Open sources that the daemon holds, and the handles that name them."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable
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


def ignore_gone(sid: int) -> None:
    """For a source whose end nobody wants to know."""


class BackgroundCloser:
    """Closes descriptors in a thread of its own, so that the loop does not wait.

    The last one to close a memfd or an unlinked file frees all of it, which
    takes about 0.1 s for a GiB. The thread exists from the first call on; while
    the machine has none to give, descriptors are closed where they are given.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._fds: SimpleQueue[int | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._over = False

    def __call__(self, fd: int) -> None:
        """Close `fd` soon; owns it."""
        # After shutdown there is nobody left who could be kept waiting.
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
        """Whether there is one now: a descriptor is queued only then, so that it is closed once."""
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
    """Owns one vetted descriptor while anybody refers to it.

    It is made with one reference, its maker's.

    Args:
        fd: owned from now on.
        uid: who handed it over, or who asked for the path.
        on_gone: called with the sid when the last reference went.
        close: takes the descriptor then, as BackgroundCloser does.
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
        """Refer to it once more. Assumes that the caller knows of a reference."""
        assert self._references > 0, f"source {self.sid}: acquired when gone"
        self._references += 1

    def release(self) -> None:
        """Give one reference back; the last one closes the descriptor."""
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

    A handle belongs to the connection that it was made on, and ends with it;
    a source that a job has acquired lives on without its handle, and counts as
    its uid's until it is gone. Uid 0 cannot use another's handle: the descriptor
    is the permission, and it was given by somebody else.
    """

    def __init__(
        self, *, per_uid: int, on_gone: OnGone = ignore_gone, close: CloseFd = close_quietly
    ) -> None:
        """Start empty.

        Args:
            per_uid: most handles of one uid, and descriptors that its jobs hold
                on to after their handles went.
            on_gone, close: as HeldSource's.
        """
        self.per_uid = per_uid
        self._on_gone = on_gone
        self._close = close
        self._entries: dict[str, _Entry] = {}
        self._of_connection: dict[int, set[str]] = {}
        self._per_uid: Counter[int] = Counter()

    def __len__(self) -> int:
        """Handles of all uids."""
        return len(self._entries)

    def count(self, uid: int) -> int:
        """Descriptors that are held for a uid."""
        return self._per_uid[uid]

    def check_room(self, uid: int, count: int) -> None:
        """Raise QuotaFull unless `uid` may have `count` more handles."""
        if self._per_uid[uid] + count > self.per_uid:
            raise QuotaFull(
                f"handles: uid {uid} holds {self._per_uid[uid]}, those included that only its jobs use,"
                f" and wants {count} more, at most {self.per_uid} are allowed",
                limit=str(self.per_uid),
            )

    def add(self, uid: int, connection: int, fd: int, facts: SourceFacts) -> str:
        """Hold `fd` under a fresh handle, and own it whatever happens.

        Raises:
            QuotaFull: `uid` has as many as it may; `fd` is closed.
        """
        try:
            self.check_room(uid, 1)
        except QuotaFull:
            self._close(fd)
            raise
        handle = secrets.token_hex(16)
        source = HeldSource(fd, facts, uid, on_gone=partial(self._on_source_gone, uid), close=self._close)
        self._entries[handle] = _Entry(source, connection)
        self._of_connection.setdefault(connection, set()).add(handle)
        self._per_uid[uid] += 1
        return handle

    def resolve(self, handle: str, uid: int) -> HeldSource:
        """The source of a handle, for whoever wants to acquire it.

        Raises:
            HandleUnknown: there is none, or it is another uid's.
        """
        entry = self._entries.get(handle)
        if entry is None or entry.source.uid != uid:
            raise HandleUnknown(f'handle "{handle[:64]}": not known, or its connection was closed')
        return entry.source

    def drop(self, handle: str, connection: int) -> None:
        """Forget a handle of this connection; any other is passed over."""
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
