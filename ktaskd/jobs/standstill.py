"""Decides whether a busy worker uses a CPU, and whether it stands still. Pure: samples are arguments.

A worker that sleeps uses no CPU and is fine: its code may wait as long as it likes. A worker stands
still if its CPU clock does not move at all although it holds a chunk and does not wait for a CPU:
somebody has stopped it, or a disk does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ktaskd.model.worker import WorkerClass

USES_NO_CPU = 0.05
"""Fraction of a CPU below which a worker counts as blocked, if it does not wait for a CPU."""

OUTRUN = 0.5
"""The same fraction for a lead of a client with low priority, whose CPU others may take."""

STOPPED = ("T", "t")
"""States of a process that somebody has stopped."""

LOOKS = 2
"""Looks in a row that must agree before a worker counts as blocked."""

STOPPED_S = {WorkerClass.LEAD: 1.0, WorkerClass.HELPER: 5.0}
"""Time after which a stopped worker gets SIGCONT. A helper has longer, since others work meanwhile."""

KILL_S = 2.0
"""Time between SIGCONT and SIGKILL for a worker that still stands still."""

DISK_S = 20.0
"""Time that a disk has to answer before another worker tries the chunk."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A busy worker at one look.

    Args:
        at_s: on any clock that does not jump.
        cpu_s: CPU seconds so far of all its threads.
        state: of its main thread, as `read_state` returns it.
        step: a value that changes with each quantum, chunk and step that it begins.
    """

    at_s: float
    cpu_s: float
    state: str
    step: tuple[int, ...] = ()


class Sight:
    """The looks at one worker since it became busy.

    Attributes:
        resumed: whether it was sent SIGCONT.
        killed: whether it was killed.
    """

    def __init__(self, first: Sample) -> None:
        """Start with the first look."""
        self.resumed = self.killed = False
        self._last = first
        self._moved_s = first.at_s
        self._low = self._high = 0
        self._blocked = False

    def share_until(self, at_s: float, cpu_s: float) -> float:
        """Return the fraction of a CPU that it has had since the last look."""
        seconds = at_s - self._last.at_s
        return (cpu_s - self._last.cpu_s) / seconds if seconds > 0 else 0.0

    def look(self, sample: Sample, *, lowered: bool = False) -> None:
        """Add another look.

        Args:
            lowered: it works for a client of low priority.
        """
        if sample.at_s <= self._last.at_s:
            return
        share = self.share_until(sample.at_s, sample.cpu_s)
        # A worker that is stopped repeatedly uses a little CPU time in between.
        moves = sample.state == "R" or (share > 0 and sample.state not in STOPPED)
        if moves or sample.step != self._last.step:
            self._moved_s = sample.at_s
            self.resumed = False
        self._last = sample
        self._note(share, low=share < OUTRUN if lowered else share < USES_NO_CPU and sample.state != "R")

    def _note(self, share: float, *, low: bool) -> None:
        self._low, self._high = (self._low + 1, 0) if low else (0, self._high + 1)
        if self._low >= LOOKS:
            self._blocked = True
        # A look may hit the moment at which a process that only polls is running.
        elif self._high >= LOOKS or share >= USES_NO_CPU:
            self._blocked = False

    @property
    def blocked(self) -> bool:
        """Whether it uses no CPU."""
        return self._blocked

    @property
    def still_s(self) -> float:
        """Seconds for which it has stood still."""
        return self._last.at_s - self._moved_s

    @property
    def stopped(self) -> bool:
        """Whether it was stopped, by SIGSTOP or a debugger."""
        return self._last.state in STOPPED

    @property
    def sleeps(self) -> bool:
        """Whether it sleeps or was stopped, and waits for no disk."""
        return self._last.state in ("S", "I", *STOPPED)


class Remedy(Enum):
    """The action that a worker which stands still needs."""

    NONE = "none"
    RESUME = "resume"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Held:
    """The properties of a worker's chunk or step that decide which remedies are allowed.

    Args:
        begun: the worker has begun it.
        foreign: it runs code that is not ours, which may sleep as long as it likes.
        own: it runs the caller's own code, which we leave alone.
        repeatable: another worker may repeat it, and that was not tried too often.
    """

    begun: bool
    foreign: bool = False
    own: bool = False
    repeatable: bool = False


def remedy(sight: Sight, worker_class: WorkerClass, held: Held) -> Remedy:
    """Return the action that a worker needs that may stand still."""
    if sight.killed or (held.begun and held.own):
        return Remedy.NONE
    bound_s = STOPPED_S[worker_class]
    if sight.stopped and sight.still_s >= bound_s and not sight.resumed:
        return Remedy.RESUME
    if held.begun and held.foreign:
        return Remedy.NONE
    if sight.stopped:
        late = sight.resumed and sight.still_s >= bound_s + KILL_S
    else:
        late = held.repeatable and sight.still_s >= DISK_S
    return Remedy.KILL if late else Remedy.NONE
