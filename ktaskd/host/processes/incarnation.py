"""Distinguish a process from a later one with the same pid."""

from __future__ import annotations

import fcntl
import os
import select

from ktaskd.host.root import HostRoot, read_kernel_text

_STATE_FIELD, _START_FIELD = 3, 22
"""Numbers of the fields "state" and "starttime" of /proc/PID/stat. Source: proc_pid_stat(5)."""


class Incarnation:
    """One process, held so that reuse of its pid is noticed.

    Facts that were read by pid are valid only if `alive` is true afterwards: then they belong to
    this process. A zombie is not alive, since the kernel has taken it out of its cgroups.

    Args:
        pidfd: refers to the process and stays the caller's; -1 = use `start_ticks`.
        start_ticks: from `read_start_ticks`; 0 = not known, so the process counts as dead.
    """

    def __init__(self, root: HostRoot, pid: int, pidfd: int = -1, start_ticks: int = 0) -> None:
        """Duplicate the pidfd.

        Raises:
            OSError: there are too many open files.
        """
        self.pid = pid
        self._root = root
        self._start_ticks = start_ticks
        self._pidfd = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, 3) if pidfd >= 0 else -1

    @property
    def alive(self) -> bool:
        """Whether the process has not ended, so that the pid is still its own."""
        if self._pidfd >= 0:
            return not has_ended(self._pidfd)
        return self._start_ticks > 0 and read_start_ticks(self._root, self.pid) == self._start_ticks

    def close(self) -> None:
        """Close our pidfd."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def has_ended(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not. Source: pidfd_open(2)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def read_start_ticks(root: HostRoot, pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if it has ended."""
    text = read_kernel_text(root.proc / str(pid) / "stat") or ""
    # The command in parentheses may contain blanks and parentheses itself.
    fields = text.rpartition(")")[2].split()
    try:
        return int(fields[_START_FIELD - _STATE_FIELD]) if fields[0] not in ("Z", "X") else 0
    except (IndexError, ValueError):
        return 0
