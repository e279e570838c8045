"""Limits the bytes that each account holds of something that all accounts share. Reads no clock."""

from __future__ import annotations

from collections import Counter


class JointQuota:
    """Limits the bytes that an account holds in several quotas together to `most`.

    Each quota has a limit of its own. Without a joint limit, an account that fills all quotas
    at the same moment would hold the sum of their limits.
    """

    def __init__(self, most: int) -> None:
        """Start with nothing held."""
        self.most = most
        self._of: Counter[int] = Counter()

    def left(self, account: int) -> int:
        """Return the bytes that the account may still take."""
        return max(self.most - self._of[account], 0)

    def charge(self, account: int, count: int) -> None:
        """Count more bytes for the account, or fewer if negative."""
        self._of[account] += count
        if not self._of[account]:
            del self._of[account]


class Quota:
    """Counts bytes by account, at most `most` in all.

    An account may hold half of what the others leave. So a later account always finds some,
    and the several accounts of one person cannot take everything.

    Args:
        sum_: the joint limit, in which these bytes count as well; None = there is none.
        times: bytes that one byte of this quota counts for in `sum_`.
    """

    def __init__(self, most: int, sum_: JointQuota | None = None, times: int = 1) -> None:
        """Start with nothing held."""
        self.most = most
        self.total = 0
        self._of: Counter[int] = Counter()
        self._sum, self._times = sum_, times

    def of(self, account: int) -> int:
        """Return the bytes that the account holds."""
        return self._of[account]

    def bound(self, account: int) -> int:
        """Return the present limit of the account, given what the others hold."""
        bound = max((self.most - self.total + self._of[account]) // 2, 0)
        if self._sum is None:
            return bound
        return min(bound, self._of[account] + self._sum.left(account) // self._times)

    def has_room(self, account: int, count: int) -> bool:
        """Whether the account may hold this many bytes more."""
        return self._of[account] + count <= self.bound(account)

    @property
    def fullest(self) -> int:
        """The account that holds most. At least one account must hold something."""
        return max(self._of, key=self._of.__getitem__)

    def charge(self, account: int, count: int) -> None:
        """Count more bytes for the account, or fewer if negative."""
        self.total += count
        self._of[account] += count
        if not self._of[account]:
            del self._of[account]
        if self._sum is not None:
            self._sum.charge(account, count * self._times)


def mebibytes(count: int) -> str:
    """Return a number of bytes in words."""
    return f"{count / (1 << 20):.1f} MiB"
