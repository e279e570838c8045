"""Be woken by the kernel when tasks wait too long, instead of asking again and again.

Source: Documentation/accounting/psi.rst, kernel/sched/psi.c
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from ktaskd.host.sockets.unixsock import close_quietly

WINDOW_US = 2_000_000
"""Without CAP_SYS_RESOURCE a window must be a multiple of 2 s, 10 s at most, and none before Linux 6.5."""


class Triggers:
    """Any number of triggers behind one descriptor that is readable when one of them fires.

    An event loop that only knows reading and writing can wait for that one:
    PSI itself says neither, only POLLPRI.
    """

    def __init__(self) -> None:
        """None yet."""
        self._epoll = select.epoll()
        self._paths: dict[int, Path] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._paths)

    @property
    def paths(self) -> frozenset[Path]:
        """What they watch."""
        return frozenset(self._paths.values())

    def add(self, path: Path, some_us: int, window_us: int = WINDOW_US) -> bool:
        """Be told when tasks waited for `some_us` within `window_us`, at most once in each window.

        Args:
            path: of a file of PSI: /proc/pressure/* or *.pressure of a cgroup.
        Returns:
            False where the kernel has or allows none, and for a file that is
            none of PSI, such as one of a fake machine.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return False
        try:
            # Fails for an ordinary file, which must not be written to.
            self._epoll.register(fd, select.EPOLLPRI)
            # Without a trigger the file has no queue to wait in, so once more after the write.
            self._epoll.unregister(fd)
            # The kernel puts a NUL over the last byte that is written: there must be one to lose.
            os.write(fd, b"some %d %d\0" % (some_us, window_us))
            self._epoll.register(fd, select.EPOLLPRI)
        except OSError:
            close_quietly(fd)  # which also takes it out of the epoll
            return False
        self._paths[fd] = path
        return True

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._epoll.fileno()

    def read(self) -> None:
        """Be done with what made the descriptor readable; a group that ended is watched no more.

        That it was readable is the news, and all of it: who looks at the
        descriptor takes the event away (psi_trigger_poll clears it), so that
        which of the files it was can no longer be found out.
        """
        for fd, events in self._epoll.poll(0):
            if events & (select.EPOLLERR | select.EPOLLHUP):
                self._drop(fd)

    def close(self) -> None:
        """Watch nothing any more."""
        for fd in list(self._paths):
            self._drop(fd)
        self._epoll.close()

    def _drop(self, fd: int) -> None:
        del self._paths[fd]
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)
        close_quietly(fd)
