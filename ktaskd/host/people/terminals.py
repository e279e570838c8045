"""When somebody last typed at a terminal, for machines without a session manager.

A terminal's access time is the time when its last input was read, in steps of 8 s; w(1) and HTCondor
use it in the same way. Graphical sessions have no terminal: only logind knows about them.

Source: tty_update_time() in drivers/tty/tty_io.c
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ktaskd.host.root import HostRoot, matching

SOURCE = "access times of /dev/tty* and /dev/pts/*"

AHEAD_S = 60.0
"""Seconds; an access time further in the future comes from a clock that was set, not from input."""


def read_last_input(root: HostRoot, now_s: float) -> float | None:
    """When somebody last typed at any terminal, in seconds since the epoch; None if there is no terminal.

    Args:
        now_s: seconds since the epoch.
    """
    times = [at_s for path in _terminals(root) if (at_s := _access_s(path)) is not None]
    return max((at_s for at_s in times if at_s <= now_s + AHEAD_S), default=None)


def _terminals(root: HostRoot) -> Iterator[Path]:
    """Consoles and pseudo terminals; none of them is opened."""
    yield from matching(root.at("/dev"), "tty[0-9]*")
    yield from matching(root.at("/dev/pts"), "[0-9]*")


def _access_s(path: Path) -> float | None:
    try:
        return os.stat(path).st_atime
    except OSError:  # it was closed meanwhile
        return None
