"""Counts the bytes that the daemon holds for its clients, with limits for an account and in total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

SHARE_PART = 4
"""The total limit holds up only accounts that hold more than one part in this many of their own limit."""


class Purse:
    """The bytes held for one connection or one user.

    Attributes:
        account: the account that pays.
        held: bytes.
    """

    __slots__ = ("_budget", "_waiting", "account", "held")

    def __init__(self, budget: Budget, account: int) -> None:
        """Nothing is held."""
        self.held = 0
        self._budget = budget
        self.account = account
        self._waiting: list[Callable[[], None]] = []

    def add(self, count: int) -> None:
        """Count more bytes."""
        self.held += count
        self._budget.change(self.account, count)

    def drop(self, count: int) -> None:
        """Count fewer bytes."""
        self.held -= count
        self._budget.change(self.account, -count)
        if self._waiting and not self.is_over:
            self.wake()

    @property
    def is_over(self) -> bool:
        """Whether it has to wait before it may hold more."""
        return self.held > self._budget.free and self._budget.is_full(self.account)

    @property
    def is_far_over(self) -> bool:
        """Whether its account is over twice its limit."""
        return self._budget.by_account(self.account) > 2 * self._budget.account_max

    @property
    def is_own_doing(self) -> bool:
        """Whether its account alone is over its limit."""
        return self._budget.by_account(self.account) > self._budget.account_max

    def wait(self, go: Callable[[], None]) -> None:
        """Call `go` once, when there may be room; `go` has to check again."""
        self._waiting.append(go)
        self._budget.waiting[self] = None

    def forget(self, go: Callable[[], None]) -> None:
        """Do not call `go` any more; ignored if it does not wait."""
        if go in self._waiting:
            self._waiting.remove(go)
        if not self._waiting:
            self._budget.waiting.pop(self, None)

    def wake(self) -> None:
        """Call all waiting functions."""
        waiting, self._waiting = self._waiting, []
        self._budget.waiting.pop(self, None)
        for go in waiting:
            go()


class Budget:
    """All purses of one kind of bytes.

    Args:
        free: bytes that each purse may always hold, so that other users hold nobody up.
        account: limit of an account; beyond it, its purses that hold more than `free` wait.
        total: limit of all accounts; beyond it, the same holds for accounts with more than a
            fourth of `account`.
    """

    def __init__(self, *, free: int, account: int, total: int) -> None:
        """Nothing is held."""
        self.free = free
        self.total = 0
        """Bytes held now."""
        self.waiting: dict[Purse, None] = {}
        """Purses with waiting functions."""
        self.peak = 0
        """Most bytes held since this was last set to 0."""
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever bytes were released."""
        self.account_max = account
        self._total_max = total
        self._by_account: Counter[int] = Counter()

    def by_account(self, account: int) -> int:
        """Return the bytes held for an account."""
        return self._by_account.get(account, 0)

    def is_full(self, account: int) -> bool:
        """Whether the account is over its limit, or all are over theirs and this one holds much of that."""
        mine = self.by_account(account)
        if self.total > self._total_max:
            return mine > self.account_max // SHARE_PART
        return mine > self.account_max

    def change(self, account: int, count: int) -> None:
        """Count more bytes for an account, or fewer."""
        was_full, was_over = count < 0 and self.is_full(account), self.total > self._total_max
        self.total += count
        self._by_account[account] += count
        if not self._by_account[account]:
            del self._by_account[account]
        self.peak = max(self.peak, self.total)
        # The total may be below its limit again while this account is still over its own.
        if (was_full and not self.is_full(account)) or (was_over and self.total <= self._total_max):
            for purse in [purse for purse in self.waiting if not purse.is_over]:
                purse.wake()
        if count < 0:
            self.on_change()
