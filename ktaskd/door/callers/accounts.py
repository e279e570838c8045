"""Decides which account pays for a uid. No I/O: the caller reads the files.

A uid that the machine's files know pays for itself. The owner of subordinate uids pays
for them, since any user can use all of its own at once with `newuidmap`.
All unknown uids share one account.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

STRANGERS = -1
"""The account of all unknown uids. No uid has this number."""

_FOREIGN = -2
"""Subordinate uids of an admin have an account apart from the admin: -2 for uid 0, -3 for uid 1 and so on."""

_UID_MAX = 2**32


@dataclass(frozen=True, slots=True)
class SubRange:
    """Uids that belong to one owner, from /etc/subuid."""

    start: int
    count: int
    owner: int

    @property
    def end(self) -> int:
        """The first uid behind the range."""
        return self.start + self.count


def parse_passwd(text: str) -> dict[str, int]:
    """Return the uids by name, without malformed lines. Source: passwd(5)."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and _is_number(fields[2]):
            found.setdefault(fields[0], int(fields[2]))
    return found


def parse_subuids(text: str, uids: Mapping[str, int]) -> list[SubRange]:
    """Return the ranges whose owner is known, by name or number. Source: subuid(5)."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition(":")
        start, _, count = rest.partition(":")
        owner = uids.get(name, int(name) if _is_number(name) else -1)
        if owner >= 0 and _is_number(start) and _is_number(count) and int(count):
            found.append(SubRange(int(start), int(count), owner))
    return found


def owner_names(text: str) -> set[str]:
    """Return the owners that are given by name. Source: subuid(5)."""
    names = {line.strip().partition(":")[0] for line in text.splitlines()}
    return {name for name in names if name and not name.startswith("#") and not _is_number(name)}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < _UID_MAX


class AccountTable:
    """Accounts by uid.

    Args:
        known: uids with an entry of their own.
        ranges: of subordinate uids; if two overlap, the one that begins later counts.
        admins: uids whose subordinate uids have one account together, apart from the admin's.
    """

    def __init__(
        self, known: Iterable[int], ranges: Iterable[SubRange] = (), admins: Iterable[int] = ()
    ) -> None:
        """Sort the ranges."""
        self._known = frozenset(known)
        self._admins = frozenset(admins)
        self._ranges = sorted(ranges, key=lambda one: one.start)
        self._starts = [one.start for one in self._ranges]
        self._reach = list(accumulate((one.end for one in self._ranges), max))

    def find(self, uid: int) -> int | None:
        """Return the account of a uid; None if the uid is unknown."""
        if uid in self._known or uid in self._admins:
            return uid
        i = bisect_right(self._starts, uid) - 1
        # The nearest range may lie inside another one that reaches further.
        while i >= 0 and uid < self._reach[i]:
            if uid < self._ranges[i].end:
                owner = self._ranges[i].owner
                return _FOREIGN - owner if owner in self._admins else owner
            i -= 1
        return None
