"""Waiting for a daemon that has just been started and does not listen yet.

`ktaskd --runtime-dir DIR &` returns before the daemon listens. The next command finds no socket, and
often not even the directory. Only a young process that was started for this very directory is waited
for: where there is none, nobody is kept waiting for long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ktask.link.locate import Place, why_silent

STARTING_S = 30.0
"""A process of this age that does not listen is not going to."""

_PAUSE_S = 0.02
_LOOKS = 5
"""For a process, before there is taken to be none: while one is being executed it has no command line."""

_OPTION = "--runtime-dir"
_PROGRAM = "ktaskd"


def wait_until_up(find: Callable[[], Place | None]) -> Place | None:
    """The place that `find` names, once the daemon that is starting there listens.

    Returns at once if somebody listens there or `find` names none, and after a tenth of a second if no
    daemon is starting there.

    Args:
        find: names the sockets. Asked again after each pause, since what a target stands for depends
            on whether its directory is there.
    Raises:
        DaemonNotTrusted: another user listens there, or could.
    """
    place, looks = find(), _LOOKS
    while place is not None and why_silent(place) and looks:
        looks = _LOOKS if is_starting(place) else looks - 1
        time.sleep(_PAUSE_S)
        place = find()
    return place


def is_starting(place: Place) -> bool:
    """Whether root or this user has just started a daemon for the directory of these sockets."""
    # A target that does not exist may be the directory, or the socket in it.
    wanted = {place.socket, os.path.dirname(place.socket)}
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
        # A relative one counts from where the process is; that of another user cannot be read.
        return {os.path.normpath(given if os.path.isabs(given) else (pid / "cwd").readlink() / given)}
    except OSError:
        return set()


def _age_s(pid: Path) -> float:
    """Seconds since a process was started; endless for one that has ended."""
    try:
        # Source: proc(5), field 22 "starttime"; the name in field 2 may have spaces in it
        ticks = int((pid / "stat").read_text().rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return float("inf")
    return up_s - ticks / os.sysconf("SC_CLK_TCK")
