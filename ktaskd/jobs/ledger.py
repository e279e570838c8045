"""How many bytes each account holds of something that all share. No clock."""

from __future__ import annotations

from collections import Counter


class Sum:
    """The bytes that each account holds in several ledgers together, at most `most`.

    Each ledger has a bound of its own; without this one an account that fills all of
    them at the same moment would hold the sum of the bounds.
    """

    def __init__(self, most: int) -> None:
        """Nobody holds anything."""
        self.most = most
        self._of: Counter[int] = Counter()

    def left(self, account: int) -> int:
        """Bytes that the account may still take."""
        return max(self.most - self._of[account], 0)

    def charge(self, account: int, count: int) -> None:
        """The account holds so many bytes more, or fewer if negative."""
        self._of[account] += count
        if not self._of[account]:
            del self._of[account]


class Ledger:
    """Bytes by account, of `most` in all.

    An account may hold half of what the others leave: one that comes later always
    finds something, and several of one person's cannot take all.

    Args:
        sum_: what is held here counts there as well, and is bounded by it.
        times: a byte that is charged here is so many bytes there.
    """

    def __init__(self, most: int, sum_: Sum | None = None, times: int = 1) -> None:
        """Nobody holds anything."""
        self.most = most
        self.total = 0
        self._of: Counter[int] = Counter()
        self._sum, self._times = sum_, times

    def of(self, account: int) -> int:
        """The bytes that the account holds."""
        return self._of[account]

    def bound(self, account: int) -> int:
        """The limit of the account now, given what the others hold."""
        bound = max((self.most - self.total + self._of[account]) // 2, 0)
        if self._sum is None:
            return bound
        return min(bound, self._of[account] + self._sum.left(account) // self._times)

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
        if self._sum is not None:
            self._sum.charge(account, count * self._times)


def mebibytes(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / (1 << 20):.1f} MiB"
