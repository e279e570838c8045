"""Limits how many things of a kind each uid and each account may have, before bytes and time are counted."""

from __future__ import annotations

from collections import Counter

from ktaskd.model.errors import QuotaFull
from ktaskd.model.identity import Identity

RESERVE_PART = 16
"""One in this many is reserved for admins."""


class Shares:
    """Counts the things of one kind.

    Args:
        what: their name in messages, in the plural.
        total: limit of all users.
        per_uid: limit of one uid.
        admins: uids that may use the reserve, and more than half.
    """

    def __init__(self, what: str, *, total: int, per_uid: int, admins: frozenset[int] = frozenset()) -> None:
        """Nobody has any."""
        self.what = what
        self.total = total
        self.per_uid = per_uid
        self.admins = admins
        self._all = 0
        self._by_uid: Counter[int] = Counter()
        self._by_account: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return how many there are."""
        return self._all

    def of(self, uid: int) -> int:
        """Return how many a uid has."""
        return self._by_uid[uid]

    def check(self, who: Identity) -> None:
        """Raise QuotaFull unless the caller may have one more.

        An account gets at most half of what the others and the admins' reserve
        leave, so that something is always left for the next one.
        """
        mine = self._by_account[who.payer]
        if self._by_uid[who.uid] >= self.per_uid:
            raise QuotaFull(
                f"{self.what}: uid {who.uid} has reached its limit of {self.per_uid}; end some first"
            )
        if who.uid in self.admins:
            if self._all >= self.total:
                raise QuotaFull(f"{self.what}: all {self.total} are in use; try again when some have ended")
            return
        free = self.total - self.total // RESERVE_PART - (self._all - mine)
        if mine >= free // 2 and (mine or free < 1):
            raise QuotaFull(
                f"{self.what}: the account of uid {who.uid} has {mine}, which is half of what others leave;"
                " end some first, or try again when others have ended theirs"
            )

    def add(self, who: Identity) -> None:
        """Count one more for the caller."""
        self._change(who, 1)

    def remove(self, who: Identity) -> None:
        """Count one fewer for the caller."""
        self._change(who, -1)

    def _change(self, who: Identity, count: int) -> None:
        self._all += count
        for counter, key in ((self._by_uid, who.uid), (self._by_account, who.payer)):
            counter[key] += count
            if not counter[key]:
                del counter[key]
