"""Shares a job out in leases: how much a worker gets, and where a lease is shortened for another worker.

A worker gets its share of a job at once. When it is done, it takes half of what is left of the largest
lease.
This is lazy binary splitting on an interval, so taking work from another worker moves one number.
Source: Tzannes, Caragea, Barua, Vishkin: Lazy binary-splitting, PPoPP 2010
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from ktaskd.planner.threads import ceil_div, round_up

QUANTA_AHEAD = 2
"""A lease is never shortened to less than this many quanta beyond its claim: its worker would be at the
new end before the order is known to it."""

TAKEN_S = 0.001
"""Work that is worth taking from another worker: about ten times as long as it takes to send it."""


LOOKS = 16
"""Leases that are compared to find a large one."""


TAIL_S = 0.01
"""If no lease of a job can be divided, none is looked at for this long, unless one is given."""


@dataclass(frozen=True, slots=True)
class Rest:
    """The part of a lease that its worker has not claimed: [claim, end).

    Args:
        nid: the node of the positions.
        rate: positions a second of its worker; 0 = not known.
    """

    claim: int
    end: int
    nid: int
    rate: float = 0.0

    @property
    def left(self) -> int:
        """Number of positions."""
        return max(self.end - self.claim, 0)


@dataclass(frozen=True, slots=True)
class Grain:
    """The rules for dividing positions.

    Args:
        min_chunk: least positions on either side.
        align: cuts are multiples of this.
        quantum: most positions that a worker claims at once.
    """

    min_chunk: int
    align: int
    quantum: int


def share(left: int, workers: int, min_chunk: int) -> int:
    """Positions for a worker that is about to begin.

    Args:
        left: positions that nobody has.
        workers: how many workers will share them, including this one.
    """
    return max(ceil_div(left, max(workers, 1)), min_chunk)


def cut_of(rest: Rest, grain: Grain) -> int | None:
    """Return the new end of a lease, which gives another worker half of the rest; None = it is too little."""
    least = max(grain.min_chunk, int(rest.rate * TAKEN_S))
    nearest = rest.claim + max(QUANTA_AHEAD * grain.quantum, least)
    cut = round_up(max(nearest, rest.claim + rest.left // 2), max(grain.align, 1))
    return cut if cut <= rest.end - least else None


def choose(rests: Iterable[tuple[int, Rest]], grain: Grain, nid: int) -> Iterator[tuple[int, int]]:
    """Yield the leases that can be divided for a worker of a node, each with its new end, the best first.

    Best is the largest of the worker's node, else the largest, among LOOKS leases at a time: to look at all
    leases of a job with hundreds of workers for each of them would take the daemon longer than the work.

    Args:
        rests: leases by a number of the caller's; no more of them are looked at than are asked for.
    """
    rests = iter(rests)
    while some := dict(islice(rests, LOOKS)):
        for at in largest(some.items(), nid):
            if (cut := cut_of(some[at], grain)) is not None:
                yield at, cut


def largest(rests: Iterable[tuple[int, Rest]], nid: int) -> list[int]:
    """Order leases by how much can be taken: of the worker's own node first, then the largest rest.

    Args:
        rests: leases by a number of the caller's.
    Returns:
        The numbers.
    """
    return [at for at, _ in sorted(rests, key=lambda pair: (pair[1].nid not in (nid, -1), -pair[1].left))]
