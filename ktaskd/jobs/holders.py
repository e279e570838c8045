"""The busy workers, and which of them use a CPU: only these count against a limit. Pure.

A worker that sleeps, waits for a disk or is stopped is *blocked*. It keeps its chunks, and another
worker may use its CPU. The number of blocked workers is limited, in all and for each account, since
each of them is a process.

A worker that *rests* waits in its chunk for a call, and no other worker waits for it. If too many
rest, those that have rested longest end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ktaskd.model.limits import BLOCKED_MAX, BLOCKED_PER_ACCOUNT_MAX

W = TypeVar("W", bound=Hashable)


@dataclass(slots=True)
class _Holder:
    uid: int
    account: int
    nid: int
    blocked: bool = False
    resting: bool = False


class Holders(Generic[W]):
    """The busy workers of one class, in the order in which they became busy.

    Args:
        blocked_max: no further worker may begin while this many are blocked.
    """

    def __init__(self, blocked_max: int = BLOCKED_MAX) -> None:
        """Start without workers."""
        self._blocked_max = blocked_max
        self._holders: dict[W, _Holder] = {}
        self._busy: Counter[int] = Counter()
        self._active_on: Counter[int] = Counter()
        self._active_of: Counter[int] = Counter()
        self._blocked_of: Counter[int] = Counter()
        self._resting: dict[W, None] = {}  # the worker that has rested longest comes first

    def __len__(self) -> int:
        """Return the number of busy workers, blocked or not."""
        return len(self._holders)

    def __contains__(self, worker: W) -> bool:
        """Whether a worker is busy."""
        return worker in self._holders

    def add(self, worker: W, uid: int, account: int, nid: int) -> None:
        """Note that a worker has begun to work for a user."""
        self._holders[worker] = _Holder(uid, account, nid)
        self._busy[nid] += 1
        self._count(self._holders[worker], 1)

    def remove(self, worker: W) -> None:
        """Note that a worker holds nothing any more."""
        self.set_blocked(worker, blocked=False)
        self.wake(worker)
        holder = self._holders.pop(worker)
        self._busy[holder.nid] -= 1
        self._count(holder, -1)

    def _count(self, holder: _Holder, change: int) -> None:
        self._active_on[holder.nid] += change
        self._active_of[holder.uid] += change
        if not self._active_of[holder.uid]:
            del self._active_of[holder.uid]

    def set_blocked(self, worker: W, *, blocked: bool) -> bool:
        """Note whether a busy worker uses no CPU; return whether that has changed."""
        holder = self._holders.get(worker)
        if holder is None or holder.resting or holder.blocked is blocked:
            return False
        holder.blocked = blocked
        self._count(holder, -1 if blocked else 1)
        self._blocked_of[holder.account] += 1 if blocked else -1
        if not self._blocked_of[holder.account]:
            del self._blocked_of[holder.account]
        return True

    def rest(self, worker: W) -> list[W]:
        """Note that a busy worker rests; return those that have rested longest if too many rest."""
        self.set_blocked(worker, blocked=False)
        holder = self._holders[worker]
        if not holder.resting:
            holder.resting = True
            self._count(holder, -1)
            self._resting[worker] = None
        own = [other for other in self._resting if self._holders[other].account == holder.account]
        most = max(self._blocked_max // 2, 1)
        return own[: -min(most, BLOCKED_PER_ACCOUNT_MAX)] or list(self._resting)[:-most]

    def wake(self, worker: W) -> None:
        """Note that a worker that rested continues; it then counts as the newest."""
        holder = self._holders[worker]
        if holder.resting:
            holder.resting = False
            self._count(holder, 1)
            del self._resting[worker]
            self._holders[worker] = self._holders.pop(worker)

    @property
    def resting(self) -> int:
        """Return the number of workers that rest."""
        return len(self._resting)

    def is_blocked(self, worker: W) -> bool:
        """Whether a worker is busy and uses no CPU."""
        holder = self._holders.get(worker)
        return holder is not None and (holder.blocked or holder.resting)

    @property
    def blocked(self) -> int:
        """Return the number of blocked workers; those that rest do not count."""
        return self._blocked_of.total()

    def busy(self, nid: int) -> int:
        """Return the number of busy workers of a node, blocked or not."""
        return self._busy[nid]

    def blocked_on(self, nid: int) -> int:
        """Return the number of blocked workers of a node; those that rest do not count."""
        resting = sum(self._holders[worker].nid == nid for worker in self._resting)
        return self._busy[nid] - self._active_on[nid] - resting

    def active(self, nid: int) -> int:
        """Return the number of busy workers of a node that use a CPU."""
        return self._active_on[nid]

    def active_of(self, uid: int) -> int:
        """Return the number of busy workers of a user that use a CPU."""
        return self._active_of[uid]

    @property
    def active_total(self) -> int:
        """Return the number of busy workers that use a CPU."""
        return len(self._holders) - self.blocked - self.resting

    def may_begin(self, account: int) -> bool:
        """Whether one more worker may begin for an account, given how many are blocked.

        There is no bound while no worker is blocked. An account has at most
        BLOCKED_PER_ACCOUNT_MAX of them, and at most half of what others leave; an
        account without any may have one for as long as there is room at all.
        """
        if not self.blocked:
            return True
        own = self._blocked_of[account]
        room = self._blocked_max - (self.blocked - own)
        return self.blocked < self._blocked_max and own < max(min(BLOCKED_PER_ACCOUNT_MAX, room // 2), 1)

    def newest_active(self, nid: int | None = None) -> list[W]:
        """Return the workers that use a CPU, of one node or of all, the newest first."""
        return [
            worker
            for worker, holder in reversed(self._holders.items())
            if not (holder.blocked or holder.resting) and nid in (None, holder.nid)
        ]
