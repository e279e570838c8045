"""Bytes that the daemon holds for its clients, bounded for an account and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

SHARE_PART = 4
"""An account that holds at most this part of its bound is not held up by what all hold together."""


class Purse:
    """What is held for one connection or one user.

    Attributes:
        account: who pays.
        held: bytes.
    """

    __slots__ = ("_ledger", "_waiting", "account", "held")

    def __init__(self, ledger: Ledger, account: int) -> None:
        """Nothing is held."""
        self.held = 0
        self._ledger = ledger
        self.account = account
        self._waiting: list[Callable[[], None]] = []

    def add(self, count: int) -> None:
        """So many bytes more are held."""
        self.held += count
        self._ledger.change(self.account, count)

    def drop(self, count: int) -> None:
        """So many bytes fewer are held."""
        self.held -= count
        self._ledger.change(self.account, -count)
        if self._waiting and not self.is_over:
            self.wake()

    @property
    def is_over(self) -> bool:
        """Whether nothing more may be taken on for it now."""
        return self.held > self._ledger.free and self._ledger.is_full(self.account)

    @property
    def is_far_over(self) -> bool:
        """Whether its account is over twice its bound."""
        return self._ledger.by_account(self.account) > 2 * self._ledger.account_max

    @property
    def is_own_doing(self) -> bool:
        """Whether its account alone is over its bound."""
        return self._ledger.by_account(self.account) > self._ledger.account_max

    def wait(self, go: Callable[[], None]) -> None:
        """Have `go` called once, when there may be room; it looks again."""
        self._waiting.append(go)
        self._ledger.waiting[self] = None

    def forget(self, go: Callable[[], None]) -> None:
        """`go` is not to be called any more; one that does not wait does no harm."""
        if go in self._waiting:
            self._waiting.remove(go)
        if not self._waiting:
            self._ledger.waiting.pop(self, None)

    def wake(self) -> None:
        """Call all that wait."""
        waiting, self._waiting = self._waiting, []
        self._ledger.waiting.pop(self, None)
        for go in waiting:
            go()


class Ledger:
    """All purses of one kind of bytes.

    Args:
        free: what each purse may always hold, so that nobody is held up by others.
        account: beyond this, those purses of an account wait that hold more than `free`.
        total: the same of all accounts, for those that hold more than a fourth of `account`.
    """

    def __init__(self, *, free: int, account: int, total: int) -> None:
        """Nothing is held."""
        self.free = free
        self.total = 0
        """Bytes that are held now."""
        self.waiting: dict[Purse, None] = {}
        """Purses for which something waits."""
        self.peak = 0
        """Most bytes held since somebody set this to 0."""
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever the bytes have become fewer."""
        self.account_max = account
        self._total_max = total
        self._by_account: Counter[int] = Counter()

    def by_account(self, account: int) -> int:
        """Bytes that are held for an account."""
        return self._by_account.get(account, 0)

    def is_full(self, account: int) -> bool:
        """Whether the account holds as much as it may, or all together do and it has its share in that."""
        mine = self.by_account(account)
        if self.total > self._total_max:
            return mine > self.account_max // SHARE_PART
        return mine > self.account_max

    def change(self, account: int, count: int) -> None:
        """More bytes, or fewer."""
        was_full, was_over = count < 0 and self.is_full(account), self.total > self._total_max
        self.total += count
        self._by_account[account] += count
        if not self._by_account[account]:
            del self._by_account[account]
        self.peak = max(self.peak, self.total)
        # All together may be below their bound again while this account is not below its own.
        if (was_full and not self.is_full(account)) or (was_over and self.total <= self._total_max):
            for purse in [purse for purse in self.waiting if not purse.is_over]:
                purse.wake()
        if count < 0:
            self.on_change()
