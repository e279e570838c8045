"""How many bytes each account holds of something that all share. No clock."""

from __future__ import annotations

from collections import Counter


class Ledger:
    """Bytes by account, of `most` in all.

    An account may hold half of what the others leave: one that comes later always
    finds something, and several of one person's cannot take all.
    """

    def __init__(self, most: int) -> None:
        """Nobody holds anything."""
        self.most = most
        self.total = 0
        self._of: Counter[int] = Counter()

    def of(self, account: int) -> int:
        """What the account holds."""
        return self._of[account]

    def bound(self, account: int) -> int:
        """What the account may hold now, as others hold what they do."""
        return max((self.most - self.total + self._of[account]) // 2, 0)

    def has_room(self, account: int, count: int) -> bool:
        """Whether the account may hold so many bytes more."""
        return self._of[account] + count <= self.bound(account)

    @property
    def fullest(self) -> int:
        """The account that holds most. Somebody must hold something."""
        return max(self._of, key=self._of.__getitem__)

    def charge(self, account: int, count: int) -> None:
        """The account holds so many bytes more, or fewer if negative."""
        self.total += count
        self._of[account] += count
        if not self._of[account]:
            del self._of[account]


def mebibytes(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / (1 << 20):.1f} MiB"
