"""Ends the processes that dead workers have left running, before the deaths are reported.

Code that is not ours may start processes, which may outlive their worker. Each worker adopts the
orphans below it, so the processes of a live worker are all below that worker. When the worker dies,
the kernel makes them children of the pool host. So a child of the host that is not a worker belongs
to a dead worker. It gets SIGTERM here, and SIGKILL soon after. The host reports the death when no
such process is left.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from ktaskd.host.processes import descendants

GRACE_S = 0.25
"""Seconds between SIGTERM and SIGKILL: enough for a resource tracker of multiprocessing, which ignores
SIGTERM and ends on its own after it has removed the shared objects of the others."""

GROWTH_MAX = 16
"""Most processes that may be started after SIGTERM, for cleaning up; with more all are killed at once."""

_LOOK_S = 0.01
"""Seconds between two looks while they may still end on their own."""

_EAGER_S, _SLOW_LOOK_S = 2.0, 0.1
"""For _EAGER_S after SIGKILL each look is followed by the next, since some processes fork faster than
they are found. Later the rest probably waits for a disk, and looks are _SLOW_LOOK_S apart."""


class Exit(NamedTuple):
    """A worker that was reaped: its process, its id, and its exit status as of waitpid."""

    pid: int
    worker_id: int
    status: int


Find = Callable[[Collection[int]], dict[int, int]]
Send = Callable[[signal.Signals, dict[int, int], Collection[int]], None]
Dying = Callable[[Collection[int]], set[int]]


@dataclass(slots=True, eq=False)
class _Held:
    """Deaths of workers that are reported when no process of theirs is left.

    Attributes:
        fresh: the workers have just died, so new strays may be theirs.
        pids: their processes at the last look.
        most: number of processes beyond which all are killed at once; 0 = not known yet.
        empty: looks in a row that found no process of theirs.
    """

    exits: list[Exit]
    since_s: float
    fresh: bool = True
    pids: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    most: int = 0
    empty: int = 0

    def is_overdue(self, now_s: float) -> bool:
        """Whether it is time for SIGKILL."""
        return now_s >= self.since_s + GRACE_S or len(self.seen) > self.most


class Leftovers:
    """The processes that dead workers of one pool host have left.

    Args:
        workers: pids of the live workers; the owner changes it.
        raise_: lets a process run at normal priority, so that it dies soon.
        find, send, dying: functions as in `host.processes.descendants`.
    """

    def __init__(
        self,
        workers: Collection[int],
        raise_: Callable[[int], object],
        find: Find = descendants.find_strays,
        send: Send = descendants.send,
        dying: Dying = descendants.find_dying,
    ) -> None:
        """Know of no process yet."""
        self._workers = workers
        self._raise = raise_
        self._find = find
        self._send = send
        self._dying = dying
        self._held: list[_Held] = []
        self._suspects: dict[int, set[int]] = {}
        """By pid of a stray: workers that were dying when it was first seen, so that it may be theirs."""

    def __bool__(self) -> bool:
        """Whether any process may be left."""
        return bool(self._held)

    def look(self, exits: list[Exit], now_s: float) -> list[Exit]:
        """Find the processes that are left and signal them; return the deaths that can be reported.

        Call it after every death of a child, and again after `patience_s`.

        Args:
            exits: workers that were reaped since the last look.
            now_s: time by a monotonic clock.
        """
        if exits:
            self._held.append(_Held(exits, now_s))
        strays = self._find(self._workers)
        if strays and not self._held:
            self._held.append(_Held([], now_s))  # left by a live worker on purpose
        self._attribute(strays)
        for held in self._held:
            self._end(held, {pid: parent for pid, parent in strays.items() if pid in held.pids}, now_s)
        over = [held for held in self._held if held.empty > 1]
        self._held = [held for held in self._held if held.empty <= 1]
        return [one for held in over for one in held.exits]

    def patience_s(self, now_s: float) -> float | None:
        """Seconds until the next look; None = no look is needed."""
        return min((_patience_s(held, now_s) for held in self._held), default=None)

    def _attribute(self, strays: dict[int, int]) -> None:
        """Assign each stray to the dead workers that it may belong to; all of those wait for it."""
        losers = [held for held in self._held if held.fresh or held.pids - strays.keys()]
        self._suspects = {pid: of for pid, of in self._suspects.items() if pid in strays}
        for held in self._held:
            held.pids &= strays.keys()
            if held.fresh:
                dead = {one.pid for one in held.exits}
                held.pids |= {pid for pid, suspects in self._suspects.items() if suspects & dead}
        known = {pid for held in self._held for pid in held.pids}
        if new := {pid: parent for pid, parent in strays.items() if pid not in known}:
            self._attribute_new(new, losers)
        for held in self._held:
            held.empty = 0 if held.pids else held.empty + 1
            held.fresh = False

    def _attribute_new(self, new: dict[int, int], losers: list[_Held]) -> None:
        """A stray below another belongs to the same worker; others lost their parent just now."""
        dying = self._dying(self._workers)
        for pid, parent in new.items():
            self._suspects[pid] = self._suspects.get(parent, dying)
            for held in [held for held in self._held if parent in held.pids] or losers or self._held:
                held.pids.add(pid)

    def _end(self, held: _Held, strays: dict[int, int], now_s: float) -> None:
        new = {pid: parent for pid, parent in strays.items() if pid not in held.seen}
        held.most = held.most or len(new) + GROWTH_MAX
        held.seen.update(new)
        for pid in list(new)[:GROWTH_MAX]:
            self._raise(pid)
        if held.is_overdue(now_s):
            self._send(signal.SIGKILL, strays, self._workers)
        else:
            self._send(signal.SIGTERM, new, self._workers)


def _patience_s(held: _Held, now_s: float) -> float:
    if not held.pids:
        return 0.0
    if not held.is_overdue(now_s):
        return _LOOK_S
    return 0.0 if now_s < held.since_s + GRACE_S + _EAGER_S else _SLOW_LOOK_S
