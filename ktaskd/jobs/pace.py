"""Keeps leads to the CPU quota of their caller. Pure: times are arguments."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

PERIOD_S = 0.1
"""A caller may use in one burst what its quota gives in this time. Source: the kernel's
default cpu.cfs_period_us."""

SLACK_S = 0.005
"""Debts below this, in CPU seconds, are ignored: so short a pause is not worth the wake-up."""


@dataclass(slots=True)
class _Account:
    """CPU seconds used beyond what the quota had given at `at_s`; negative = less was used than given."""

    owed_s: float
    at_s: float


class Pacer:
    """The CPU time that leads of each caller have used beyond its quota.

    A lead stands for the caller's own blocked thread, which its cgroup would
    throttle. Leads are in another cgroup and so hold themselves back: those of one
    caller together use at most `quota` CPU seconds a second. Helpers do not count:
    they use what nobody wants. A token bucket that fills at the quota's rate.
    """

    def __init__(self) -> None:
        """Start without debts."""
        self._accounts: dict[Hashable, _Account] = {}

    def charge(self, caller: Hashable, cpu_s: float, quota: float, now_s: float, took_s: float = 0.0) -> None:
        """Charge a caller for CPU time that its lead has used.

        Args:
            quota: CPUs' worth of time that the caller's cgroups allow; 0 = no limit.
            took_s: the elapsed time, in which the quota gave CPU time as well.
        """
        if quota > 0:
            saved_s = quota * max(PERIOD_S, took_s)
            owed_s = self._owed_s(caller, quota, now_s, saved_s) + cpu_s
            self._accounts[caller] = _Account(owed_s, now_s)
            self._sweep(now_s)

    def wait_s(self, caller: Hashable, quota: float, now_s: float) -> float:
        """Seconds until a lead of the caller may go on; 0 = it may now."""
        if quota <= 0:
            self._accounts.pop(caller, None)
            return 0.0
        owed_s = self._owed_s(caller, quota, now_s, 0.0)
        return owed_s / quota if owed_s > SLACK_S else 0.0

    def _owed_s(self, caller: Hashable, quota: float, now_s: float, saved_s: float) -> float:
        account = self._accounts.get(caller)
        if account is None:
            return -saved_s
        return max(account.owed_s - quota * (now_s - account.at_s), -saved_s)

    def _sweep(self, now_s: float) -> None:
        """From time to time, forget callers that were not charged for long."""
        if len(self._accounts) > 64:
            kept = {caller: one for caller, one in self._accounts.items() if now_s - one.at_s < 60.0}
            self._accounts = kept
