"""When somebody last typed, where no session manager says it.

A terminal's time of access is when its last input was read, in steps of 8 s; w(1) and
HTCondor take it for the same. Graphical sessions have none: for those only logind knows.

Source: tty_update_time() in drivers/tty/tty_io.c
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ktaskd.host.root import HostRoot, matching

SOURCE = "access times of /dev/tty* and /dev/pts/*"

AHEAD_S = 60.0
"""A time that is further in the future is of a clock that was set, and no input."""


def read_last_input(root: HostRoot, now_s: float) -> float | None:
    """When any terminal was typed on last; None if there is none.

    Args:
        now_s: seconds since the epoch, as is the answer.
    """
    times = [at_s for path in _terminals(root) if (at_s := _access_s(path)) is not None]
    return max((at_s for at_s in times if at_s <= now_s + AHEAD_S), default=None)


def _terminals(root: HostRoot) -> Iterator[Path]:
    """Consoles and pseudo terminals; names only, nothing is opened."""
    yield from matching(root.at("/dev"), "tty[0-9]*")
    yield from matching(root.at("/dev/pts"), "[0-9]*")


def _access_s(path: Path) -> float | None:
    try:
        return os.stat(path).st_atime
    except OSError:  # it was closed meanwhile
        return None
