"""Find the processes below this one, and send signals to them without hitting any other process.

A process that adopts orphans (a subreaper) keeps every descendant below itself: a child whose parent
ends becomes its child, even if it has made a session of its own. So no process that was started below
it leaves its tree. Only a process elsewhere, such as a service manager, can start one outside on request.

Source: PR_SET_CHILD_SUBREAPER in prctl(2); /proc/PID/task/TID/children in proc(5)
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from ktaskd.host.libc import prctl
from ktaskd.host.processes.process import PROC

_PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2)"""

_PARENT_FIELD, _FLAGS_FIELD = 4, 9
"""Numbers of the fields "ppid" and "flags" of /proc/PID/stat. Source: proc_pid_stat(5)."""

_PF_EXITING = 0x4
"""Source: linux/sched.h"""


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends; raises OSError."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def read_children(pid: int, proc: Path = PROC) -> set[int]:
    """The children of a process, including zombies; none if the process is gone.

    The kernel may leave out a child while others end, so trust "none" only after two readings.
    """
    lists = list(_child_lists(pid, proc))
    if lists or not (proc / str(pid)).exists():
        return {int(child) for text in lists for child in text.split()}
    return {child for child in _pids(proc) if read_parent(child, proc) == pid}  # without CONFIG_PROC_CHILDREN


def _child_lists(pid: int, proc: Path) -> Iterator[str]:
    """The list of children of each of its threads."""
    task = proc / str(pid) / "task"
    with contextlib.suppress(OSError):
        for thread in os.listdir(task):
            with contextlib.suppress(OSError):
                yield (task / thread / "children").read_text()


def _pids(proc: Path) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isascii() and name.isdigit()]


def read_parent(pid: int, proc: Path = PROC) -> int:
    """The parent of a process; 0 if the process is gone."""
    return _read_field(pid, _PARENT_FIELD, proc)


def find_dying(pids: Collection[int], proc: Path = PROC) -> set[int]:
    """Which of these processes have begun to exit, including zombies.

    An exiting process adopts no more orphans, but its own children stay below it until its end.
    """
    return {pid for pid in pids if _read_field(pid, _FLAGS_FIELD, proc) & _PF_EXITING}


def _read_field(pid: int, number: int, proc: Path) -> int:
    try:
        text = (proc / str(pid) / "stat").read_text()
        # The name in front may contain anything, including parentheses and blanks.
        return int(text[text.rindex(")") + 1 :].split()[number - 3])
    except (OSError, ValueError, IndexError):
        return 0


def find_strays(known: Collection[int], proc: Path = PROC) -> dict[int, int]:
    """Children of this process that are not `known`, and all below them: pid -> parent, parents first."""
    own = os.getpid()
    found = {child: own for child in read_children(own, proc) if child not in known}
    unseen = list(found)
    while unseen:
        parent = unseen.pop()
        for child in read_children(parent, proc):
            if child not in found:
                found[child] = parent
                unseen.append(child)
    return found


def send(number: signal.Signals, strays: dict[int, int], known: Collection[int]) -> None:
    """Send a signal to strays that `find_strays` found, and to the process groups of our direct children.

    A child of ours keeps its pid and the id of its group until it is reaped, which only this thread
    does. Its group has no process of others: a group belongs to one session, and every process in the
    session of a stray descends from it or from its worker. The kernel signals a group as a whole, so
    members that fork at that moment do not escape.

    Args:
        known: children whose groups must not be signalled.
    """
    own = os.getpid()
    for pid, parent in strays.items():
        if parent == own:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                _send_group(number, pid, known)
                os.kill(pid, number)
        else:
            _send_below(number, pid, parent)


def _send_group(number: signal.Signals, pid: int, known: Collection[int]) -> None:
    group = os.getpgid(pid)
    if group not in known and os.getsid(pid) != os.getsid(0):
        os.killpg(group, number)


def _send_below(number: signal.Signals, pid: int, parent: int) -> None:
    """Signal a deeper descendant if it is still a child of `parent`, which may have reaped it."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if read_parent(pid) == parent:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(pidfd, number)
    finally:
        os.close(pidfd)
