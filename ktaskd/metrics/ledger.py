"""Accounts of the jobs that have ended, and of the time that jobs waited. Pure.

No client can make the accounts large: each label has a bounded number of values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ktaskd.metrics.bounded import OTHER, Bounded
from ktaskd.metrics.histogram import Histogram
from ktaskd.model.worker import WorkerClass

USERS_MAX, FUNCTIONS_MAX, REASONS_MAX = 32, 64, 64
"""Different users, functions and reasons that are counted apart; all further ones count as "other"."""

SERIES_MAX = 1000
"""Different combinations of function, outcome and user. After that the user is "other"."""

User = int | None
"""The uid that pays for a job; None = one of the other users."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The part of a job that counts, whether or not it has ended.

    Args:
        payer: the uid that pays for the job.
        volume: bytes of the sources that it has processed.
    """

    function: str
    payer: int
    volume: int = 0
    lead_ns: int = 0
    helper_ns: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended.

    Args:
        outcome: "succeeded", "failed", "cancelled" or "dirty".
        queue_s: seconds until its first worker began, or until its end.
        run_s: seconds from then on; None = it never began.
    """

    usage: Usage
    outcome: str
    queue_s: float
    run_s: float | None = None


class Ledger:
    """The accounts, from the start of the daemon on.

    Attributes:
        ended: jobs by function, outcome and user.
        volume: bytes by function.
        cpu_ns: CPU time by class and user.
        waited_s: seconds by reason.
        queue: the time until jobs began.
        run: the time that jobs ran, by function.
    """

    def __init__(self) -> None:
        """Start with no job."""
        self.ended: Counter[tuple[str, str, User]] = Counter()
        self.volume: Counter[str] = Counter()
        self.cpu_ns: Counter[tuple[WorkerClass, User]] = Counter()
        self.waited_s: dict[str, float] = {}
        self.queue = Histogram()
        self.run: dict[str, Histogram] = {}
        self._users = Bounded[int](USERS_MAX)
        self._functions = Bounded[str](FUNCTIONS_MAX)
        self._reasons = Bounded[str](REASONS_MAX)

    def note_ended(self, job: Ended) -> None:
        """Count a job that has ended."""
        usage, function = job.usage, self._function(job.usage.function)
        key = function, job.outcome, self._users.keep(usage.payer)
        if key not in self.ended and len(self.ended) >= SERIES_MAX:
            key = function, job.outcome, None
        self.ended[key] += 1
        self._charge(self.volume, self.cpu_ns, usage)
        self.queue.add(job.queue_s)
        if job.run_s is not None:
            self.run.setdefault(function, Histogram()).add(job.run_s)

    def note_waited(self, reason: str, seconds: float) -> None:
        """Count time that a job waited."""
        code = self._reasons.keep(reason) or OTHER
        self.waited_s[code] = self.waited_s.get(code, 0.0) + seconds

    def with_running(
        self, running: Iterable[Usage]
    ) -> tuple[Counter[str], Counter[tuple[WorkerClass, User]]]:
        """Return `volume` and `cpu_ns` including the present shares of jobs that have not ended."""
        volume, cpu_ns = self.volume.copy(), self.cpu_ns.copy()
        for usage in running:
            self._charge(volume, cpu_ns, usage)
        return volume, cpu_ns

    def _charge(self, volume: Counter[str], cpu_ns: Counter[tuple[WorkerClass, User]], usage: Usage) -> None:
        user = self._users.keep(usage.payer)
        volume[self._function(usage.function)] += usage.volume
        cpu_ns[WorkerClass.LEAD, user] += usage.lead_ns
        cpu_ns[WorkerClass.HELPER, user] += usage.helper_ns

    def _function(self, name: str) -> str:
        return self._functions.keep(name) or OTHER
