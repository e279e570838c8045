"""Decides how many workers pay for a job, by trying one fewer for a moment. Pure: times are arguments.

A second worker may make a job no faster: the kernel lets one writer at a time into an inode, memory and disks
have a largest rate. Such a worker burns a CPU for nothing. So after a while one worker is taken off. If the
job is about as fast without it, it stays off, and is tried again later, less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PAYS = 1.05
"""A worker pays if the job is faster with it by this factor."""

MEASURE_S = 0.03
"""Time for which a rate is measured."""

SETTLE_S = 0.005
"""Time that is not measured after the number of workers has changed."""

FIRST_WRITING_S, FIRST_READING_S = 0.05, 1.0
"""Work of a job before the first trial. Writers often take turns in the kernel; readers hardly ever do."""

STALE_S = 3 * MEASURE_S
"""After a longer gap between two looks a rate is measured again: the workers may have changed meanwhile."""

AGAIN_S, AGAIN_MAX_S = 2.0, 60.0
"""Time before the next trial; it doubles each time, up to the second."""


class Order(Enum):
    """The order about the newest helper of a job."""

    NOTHING = "nothing"
    TAKE_OFF = "take off"
    GIVE_BACK = "give back"


@dataclass(frozen=True, slots=True)
class Look:
    """A job at one moment.

    Args:
        done: positions that are done, including those inside leases.
        workers: how many workers hold leases.
    """

    at_s: float
    done: int
    workers: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Positions a second with some number of workers, and with one fewer."""

    workers: int
    with_all: float
    with_fewer: float

    @property
    def pays(self) -> bool:
        """Whether the last worker makes the job faster."""
        return self.with_all > PAYS * self.with_fewer


class _Phase(Enum):
    ALL, TRYING, FEWER = range(3)


@dataclass(slots=True)
class Saturation:
    """The state of the trials of one job.

    Args:
        first_s: time with the same workers before the first trial.
        limit: most workers that pay; 0 = as many as there may be.
        rates: as measured in the last trial.
    """

    first_s: float
    limit: int = 0
    rates: Rates | None = None
    _phase: _Phase = _Phase.ALL
    _window: Look | None = None
    _is_settled: bool = False
    _with_all: float = 0.0
    _again_s: float = AGAIN_S
    _due_s: float = 0.0

    @property
    def against_more(self) -> Rates | None:
        """The rates that show that one more worker does not pay; None = it may."""
        return self.rates if self._phase is _Phase.FEWER else None

    def look(self, now: Look) -> Order:
        """Take a look into account; return what to do."""
        if self._phase is _Phase.TRYING and now.workers > self.limit:
            return Order.NOTHING  # the helper that was taken off has not answered yet
        since = self._since(now)
        if not self._is_settled or now.at_s - since.at_s < MEASURE_S:
            return Order.NOTHING
        rate = (now.done - since.done) / (now.at_s - since.at_s)
        self._window = Look(now.at_s, now.done, now.workers)
        return self._judge(now, rate) if self._phase is _Phase.TRYING else self._try(now, rate)

    def pause(self, at_s: float) -> Order:
        """Do without a look, since other jobs or processes take CPUs: the rate would show only that.

        A trial ends without a result: otherwise the job would have a worker less for as long as that lasts.
        """
        self._window = None
        if self._phase is _Phase.ALL:
            self._due_s = max(self._due_s, at_s + self.first_s)
        elif self._phase is _Phase.TRYING or at_s >= self._due_s:
            return self._give_back(at_s)
        return Order.NOTHING

    def wait_s(self, at_s: float) -> float:
        """Return the time for which no look is needed."""
        if self._phase is _Phase.TRYING or not self._due_s:
            return 0.0
        return max(self._due_s - at_s - SETTLE_S - 2 * MEASURE_S, 0.0)

    def _since(self, now: Look) -> Look:
        """Return the look from which on the rate is measured."""
        since = self._window
        if since is None or since.workers != now.workers or now.at_s - since.at_s > STALE_S:
            since, self._is_settled = now, False
            self._due_s = self._due_s or now.at_s + self.first_s
        if not self._is_settled and now.at_s - since.at_s >= SETTLE_S:
            since, self._is_settled = now, True
        self._window = since
        return since

    def _give_back(self, at_s: float) -> Order:
        self._phase, self.limit, self._due_s = _Phase.ALL, 0, at_s + self.first_s
        return Order.GIVE_BACK

    def _try(self, now: Look, rate: float) -> Order:
        """Begin a trial if it is time for one."""
        if now.at_s < self._due_s:
            return Order.NOTHING
        if self._phase is _Phase.FEWER:
            return self._give_back(now.at_s)
        if now.workers < 2:
            return Order.NOTHING
        self._phase, self.limit, self._with_all, self._window = _Phase.TRYING, now.workers - 1, rate, None
        return Order.TAKE_OFF

    def _judge(self, now: Look, rate: float) -> Order:
        """End a trial."""
        self.rates = Rates(self.limit + 1, self._with_all, rate)
        self._due_s = now.at_s + self._again_s
        self._again_s = min(2 * self._again_s, AGAIN_MAX_S)
        if not self.rates.pays:
            self._phase = _Phase.FEWER
            return Order.NOTHING
        self._phase, self.limit = _Phase.ALL, 0
        return Order.GIVE_BACK
