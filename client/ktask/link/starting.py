"""Waiting for a daemon that has just been started and does not listen yet.

`ktaskd --runtime-dir DIR &` returns before the daemon listens. The next command finds no socket, and
often no directory either. The client waits only if a process was started recently for this very
directory; otherwise it gives up at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ktask.link.locate import Endpoint, why_silent

STARTING_S = 30.0
"""A process that does not listen at this age never will."""

_PAUSE_S = 0.02
_LOOKS = 5
"""Searches for such a process before giving up: during its exec a process has no command line."""

_OPTION = "--runtime-dir"
_PROGRAM = "ktaskd"


def wait_until_up(find: Callable[[], Endpoint | None]) -> Endpoint | None:
    """The endpoint that `find` names, once the daemon that is starting there listens.

    Returns at once if a process listens there or `find` returns None, and after a tenth of a second if
    no daemon is starting there.

    Args:
        find: names the endpoint. Called again after each pause, since what a target stands for depends
            on whether its directory exists.
    Raises:
        DaemonNotTrusted: another user listens there, or could.
    """
    endpoint, looks = find(), _LOOKS
    while endpoint is not None and why_silent(endpoint) and looks:
        looks = _LOOKS if is_starting(endpoint) else looks - 1
        time.sleep(_PAUSE_S)
        endpoint = find()
    return endpoint


def is_starting(endpoint: Endpoint) -> bool:
    """Whether root or this user has just started a daemon for the directory of this endpoint."""
    # A target that does not exist may be the directory, or the socket in it.
    wanted = {endpoint.socket, os.path.dirname(endpoint.socket)}
    return any(wanted & _directories(pid) and _age_s(pid) < STARTING_S for pid in _pids())


def runtime_dir_of(words: Sequence[str]) -> str | None:
    """The runtime directory in the command line of a daemon; None for any other command line."""
    for i, word in enumerate(words):
        if word == _OPTION or word.startswith(f"{_OPTION}="):
            if not any(os.path.basename(before) == _PROGRAM for before in words[:i]):
                return None
            return word.partition("=")[2] if "=" in word else "".join(words[i + 1 : i + 2])
    return None


def _pids() -> Iterator[Path]:
    """Processes of root and of this user."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid in (0, os.geteuid()):
                yield entry
        except OSError:
            continue  # it has ended


def _directories(pid: Path) -> set[str]:
    """The runtime directory that a process was started for; empty if it is no daemon."""
    try:
        words = [os.fsdecode(word) for word in (pid / "cmdline").read_bytes().split(b"\0")]
        given = runtime_dir_of(words)
        if not given:
            return set()
        # A relative path starts at the process's directory, which is unreadable for another user's process.
        return {os.path.normpath(given if os.path.isabs(given) else (pid / "cwd").readlink() / given)}
    except OSError:
        return set()


def _age_s(pid: Path) -> float:
    """Seconds since a process was started; infinite for one that has ended."""
    try:
        # Source: proc(5), field 22 "starttime"; the name in field 2 may have spaces in it
        ticks = int((pid / "stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return float("inf")
    return up_s - ticks / os.sysconf("SC_CLK_TCK")
