"""Let the kernel wake us when tasks wait too long, instead of polling.

Source: Documentation/accounting/psi.rst, kernel/sched/psi.c
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

WINDOW_US = 2_000_000
"""Without CAP_SYS_RESOURCE a window must be a multiple of 2 s, 10 s at most, and none before Linux 6.5."""


class Triggers:
    """Any number of triggers behind one descriptor that is readable when one of them fires.

    An event loop that supports only reading and writing can wait for that descriptor. A PSI file
    itself reports only POLLPRI.
    """

    def __init__(self) -> None:
        """Have no trigger yet."""
        self._epoll = select.epoll()
        self._paths: dict[int, Path] = {}

    def __len__(self) -> int:
        """Number of triggers."""
        return len(self._paths)

    @property
    def paths(self) -> frozenset[Path]:
        """The files that they watch."""
        return frozenset(self._paths.values())

    def add(self, path: Path, some_us: int, window_us: int = WINDOW_US) -> bool:
        """Fire when tasks waited for `some_us` within `window_us`, at most once in each window.

        Args:
            path: a PSI file: /proc/pressure/* or *.pressure of a cgroup.
        Returns:
            False if the kernel has no triggers or refuses this one, and for a file that is not a
            PSI file, such as one of a fake machine.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        try:
            # Fails for an ordinary file, which must not be written to.
            self._epoll.register(fd, select.EPOLLPRI)
            # Without a trigger the file has no wait queue, so register again after the write.
            self._epoll.unregister(fd)
            # The kernel overwrites the last byte with a NUL, so one is appended.
            os.write(fd, b"some %d %d\0" % (some_us, window_us))
            self._epoll.register(fd, select.EPOLLPRI)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)  # which also takes it out of the epoll
            return False
        self._paths[fd] = path
        return True

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._epoll.fileno()

    def read(self) -> None:
        """Clear the event that made the descriptor readable, and drop the triggers of removed groups.

        Which file fired is not known: polling the descriptor clears the event
        (psi_trigger_poll).
        """
        for fd, events in self._epoll.poll(0):
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self._drop(fd)

    def close(self) -> None:
        """Stop watching."""
        for fd in list(self._paths):
            self._drop(fd)
        self._epoll.close()

    def _drop(self, fd: int) -> None:
        del self._paths[fd]
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
