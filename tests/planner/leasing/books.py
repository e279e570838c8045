"""Virtual jobs, workers and what these hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.planner.leasing.speed import Speed

MIB = 1 << 20
QUANTUM, MIN_CHUNK, PROBE = 2 * MIB, MIB, 8 * MIB
"""Of file.crc32."""


@dataclass(eq=False)
class Held:
    """A chunk or lease [start, end) that a worker holds; `start` moves with its reports."""

    job: Job
    start: int
    end: int
    nid: int
    slice_s: float = 0.0
    charged_s: float = 0.0
    sent_s: float = 0.0
    begun_s: float = -1.0
    first: int = 0
    """The position at which it was begun, at `begun_s`."""
    stop_s: float = float("inf")
    """From then on the remainder is given back after the current quantum."""


@dataclass(eq=False)
class Job:
    """One job of a user; `waiting` are the positions that nobody has: [start, end, nid]."""

    user: int
    total: int
    threads: int
    waited: bool = False
    waiting: list[list[int]] = field(default_factory=list)
    held: dict[Worker, list[Held]] = field(default_factory=dict)
    done: int = 0
    rate: float = 0.0
    """Learnt positions a second of a worker; for the former rule."""
    tail_s: float = 0.0
    """Until then no lease can be divided."""

    @property
    def left(self) -> int:
        """Positions that nobody has."""
        return sum(end - start for start, end, _ in self.waiting)

    def take(self, size: int, nid: int) -> tuple[int, int, int] | None:
        """Take at most so many positions, those of a node first."""
        if not self.waiting:
            return None
        piece = min(self.waiting, key=lambda piece: piece[2] not in (nid, -1))
        start, end, of = piece
        stop = min(start + size, end)
        if stop == end:
            self.waiting.remove(piece)
        else:
            piece[0] = stop
        return start, stop, of


@dataclass(eq=False)
class Worker:
    """One worker. It works on the first of `queue`."""

    number: int
    nid: int
    speed: Speed
    queue: list[Held] = field(default_factory=list)
    job: Job | None = None
    version: int = 0
    last_s: float = 0.0
    """When it had its last position done."""
    seen: float = -1.0
    """Its position at the last look for starved helpers."""

    def position(self, now_s: float) -> int:
        """How far it is in what it works on."""
        held = self.queue[0]
        if held.begun_s < 0 or now_s <= held.begun_s:
            return held.start
        done = self.speed.done(now_s) - self.speed.done(held.begun_s)
        return min(held.first + int(done), held.end)

    def claim(self, now_s: float) -> int:
        """The end of the quantum that it has begun."""
        held, position = self.queue[0], self.position(now_s)
        if held.begun_s < 0 or now_s < held.begun_s:
            return held.start
        return min(position - position % QUANTUM + QUANTUM, held.end)
