"""Reads the command lines of callers without holding up the loop."""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable

from ktaskd.model.identity import Command, Identity

PENDING_MAX = 256
"""Command lines that wait to be read; further ones stay unknown."""


class Commands:
    """Reads one command line for each connection, in a thread.

    The kernel takes a lock of the process whose command line is read, and a process can keep that lock for
    seconds, as while it changes the rights of much memory. The loop never waits for that.

    Args:
        read: returns the command line of a process, by pid and uid; may take long.
    """

    def __init__(self, read: Callable[[int, int], str]) -> None:
        """Read nothing yet."""
        self._read = read
        self._pending: deque[tuple[Command, int, int]] = deque()
        self._lock = threading.Lock()
        self._reading = False

    def of(self, who: Identity) -> Command:
        """Return the command line of a caller, which gets its text when it has been read."""
        command = Command()
        with self._lock:
            if who.pid <= 0 or len(self._pending) >= PENDING_MAX:
                return command
            self._pending.append((command, who.pid, who.uid))
            if self._reading:
                return command
            self._reading = True
        try:
            # Without an object of `threading`, whose start waits for the thread: this is done by the loop.
            _thread.start_new_thread(self._read_all, ())
        except RuntimeError:
            self._reading = False
        return command

    def _read_all(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._reading = False
                    return
                command, pid, uid = self._pending.popleft()
            command.text = self._read(pid, uid)
