"""Ends what workers have left running, before their death counts.

Code that is not ours may start processes, and those may outlive their worker. Each worker adopts the
orphans below it, so that what belongs to one that lives is below that one. When it dies, the kernel hands
all of them to the pool host. So a child of the host that is no worker belongs to a dead worker.
Here it is sent SIGTERM, and SIGKILL soon after; the host reports the death when none is left.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from ktaskd.host.processes import descendants

GRACE_S = 0.25
"""Between SIGTERM and SIGKILL: enough for a resource tracker of multiprocessing, which ignores
SIGTERM and ends by itself after it has removed what the others shared."""

GROWTH_MAX = 16
"""Processes that may be started after SIGTERM, for cleaning up; beyond it they are killed at once."""

_LOOK_S = 0.01
"""Between two looks while they may still end by themselves."""

_EAGER_S, _SLOW_LOOK_S = 2.0, 0.1
"""How long after SIGKILL the next look comes at once: some fork faster than they are found. After
that they wait for a disk, say, and looks are rare."""


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
    """Deaths that are reported when what those workers have left is gone.

    Attributes:
        fresh: they have just died, so that what is new may be theirs.
        pids: what was found of theirs at the last look.
        most: processes beyond which they are killed at once; 0 = not known yet.
        empty: looks in a row that have found nothing of theirs.
    """

    exits: list[Exit]
    since_s: float
    fresh: bool = True
    pids: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    most: int = 0
    empty: int = 0

    def is_overdue(self, now_s: float) -> bool:
        """Whether they are killed now."""
        return now_s >= self.since_s + GRACE_S or len(self.seen) > self.most


class Leftovers:
    """All that workers of one pool host have left.

    Args:
        workers: pids of the workers that live; follows the changes of its owner.
        raise_: lets a process run at normal priority, so that it dies soon.
        find, send, dying: as of `host.descendants`.
    """

    def __init__(
        self,
        workers: Collection[int],
        raise_: Callable[[int], object],
        find: Find = descendants.find_strays,
        send: Send = descendants.send,
        dying: Dying = descendants.find_dying,
    ) -> None:
        """Nothing is left by anybody."""
        self._workers = workers
        self._raise = raise_
        self._find = find
        self._send = send
        self._dying = dying
        self._held: list[_Held] = []
        self._suspects: dict[int, set[int]] = {}
        """Of what is left: workers that had begun to die when it was first seen, so that it may be theirs."""

    def __bool__(self) -> bool:
        """Whether something may be left."""
        return bool(self._held)

    def look(self, exits: list[Exit], now_s: float) -> list[Exit]:
        """See what is left, have it end, and answer whose deaths may be reported.

        To be called after every death of a child, and as often as `patience_s` says.

        Args:
            exits: workers that were reaped since the last look.
            now_s: of a clock that nobody sets.
        """
        if exits:
            self._held.append(_Held(exits, now_s))
        strays = self._find(self._workers)
        if strays and not self._held:
            self._held.append(_Held([], now_s))  # of a worker that lives, and did not want to keep it
        self._attribute(strays)
        for held in self._held:
            self._end(held, {pid: parent for pid, parent in strays.items() if pid in held.pids}, now_s)
        over = [held for held in self._held if held.empty > 1]
        self._held = [held for held in self._held if held.empty <= 1]
        return [one for held in over for one in held.exits]

    def patience_s(self, now_s: float) -> float | None:
        """Seconds until the next look; None = it needs none."""
        return min((_patience_s(held, now_s) for held in self._held), default=None)

    def _attribute(self, strays: dict[int, int]) -> None:
        """Whose each of them is. Where that cannot be known, all wait that it may belong to."""
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
        """One below another one is of the same worker; else it was below a process that has just gone."""
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
