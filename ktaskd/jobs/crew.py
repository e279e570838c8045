"""The hands that hold the chunks of one job, and whose answer counts. Pure: nothing is sent, no clock.

A chunk may be in two hands: what a starved helper holds, the lead may run as well where the function
writes nothing. The two are each other's *twin*. The first that ends the chunk wins, and the answer of
the other one is *void*. A worker that gives the chunk back leaves all of it to the twin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from ktaskd.jobs.ports import Worker
from ktaskd.model.memory import MemoryLimit
from ktaskd.planner.cursor import Chunk


@dataclass(slots=True, eq=False)
class HeldChunk:
    """A chunk that a worker holds. `sent_s` is when it could begin with it."""

    chunk: Chunk
    sent_s: float
    worker: Worker
    charged_s: float = 0.0
    """CPU seconds that its owner was charged ahead for it."""
    twin: HeldChunk | None = None
    """The same chunk in the hands of another worker: the first that ends it wins."""
    void: bool = False
    """Whether its twin was faster, so that its answer counts for nothing any more."""


class Verdict(NamedTuple):
    """The worth of an answer on a chunk.

    Args:
        counts: what the answer says is noted.
        to_recall: holds the twin, whose answer is void from now on.
    """

    counts: bool
    to_recall: Worker | None = None


_COUNTS, _IS_VOID, _TWIN_DOES_IT = Verdict(True), Verdict(False), Verdict(False)


@dataclass(slots=True)
class Crew:
    """The workers that have something of a job in hand.

    Invariant: a worker is in at most one crew, and in one exactly if it is BUSY.
    """

    lead: Worker | None = None
    helpers: set[Worker] = field(default_factory=set)
    held: dict[Worker, dict[int, HeldChunk]] = field(default_factory=dict)
    step_worker: Worker | None = None
    step_seq: int = 0
    introduced: set[Worker] = field(default_factory=set)
    """Workers that know the job, and are to forget it when it ends."""
    to_duplicate: list[HeldChunk] = field(default_factory=list)
    """Chunks of starved helpers that the lead is to run as well."""

    @property
    def busy(self) -> set[Worker]:
        """Everybody who may touch a source of the job now."""
        workers = {worker for worker, chunks in self.held.items() if chunks}
        if self.step_worker is not None:
            workers.add(self.step_worker)
        return workers

    # -- chunks ---------------------------------------------------------------

    def holding(self, worker: Worker, seq: int) -> HeldChunk | None:
        """The chunk that a worker holds under this number; None = it holds none."""
        chunks = self.held.get(worker)
        return chunks.get(seq) if chunks else None

    def give(self, worker: Worker, seq: int, held: HeldChunk) -> None:
        """A worker was sent a chunk under this number."""
        self.held[worker][seq] = held

    def take(self, worker: Worker, seq: int) -> HeldChunk | None:
        """A worker has answered: it holds this no more."""
        chunks = self.held.get(worker)
        return chunks.pop(seq, None) if chunks else None

    def settle(self, held: HeldChunk, *, whole: bool) -> Verdict:
        """Return the worth of an answer on a chunk, or of the death of its worker.

        Args:
            whole: the worker has ended the chunk, well or not; else nobody may count on it.
        """
        if self.to_duplicate and held in self.to_duplicate:
            self.to_duplicate.remove(held)
        if held.void:
            return _IS_VOID
        twin = held.twin
        if twin is None:
            return _COUNTS
        held.twin = twin.twin = None
        if not whole:
            return _TWIN_DOES_IT
        twin.void = True
        return Verdict(True, twin.worker)

    # -- twins ----------------------------------------------------------------

    def duplicate(self, worker: Worker) -> None:
        """Have the lead run what a worker holds as well, except for chunks that have a twin or are void."""
        chunks = self.held.get(worker, {}).values()
        self.to_duplicate += [held for held in chunks if held.twin is None and not held.void]

    def take_duplicate(self) -> HeldChunk:
        """The chunk that the lead is to run next."""
        return self.to_duplicate.pop(0)

    @staticmethod
    def pair(held: HeldChunk, twin: HeldChunk) -> None:
        """The lead holds the same chunk now."""
        held.twin, twin.twin = twin, held

    def holds_only_void(self, worker: Worker) -> bool:
        """Whether a worker holds something, and none of its answers will count."""
        chunks = self.held.get(worker, {}).values()
        return bool(chunks) and all(held.void for held in chunks)


class _Nobody(set[Worker]):
    def add(self, _: Worker) -> NoReturn:
        raise AssertionError("a worker joins a job that has no crew of its own")


class _Nothing(dict[Worker, dict[int, HeldChunk]]):
    def setdefault(self, *_: object) -> NoReturn:
        raise AssertionError("a worker holds something of a job that has no crew of its own")

    __setitem__ = setdefault


NOBODY = Crew(helpers=_Nobody(), held=_Nothing(), introduced=_Nobody())
"""The crew of all jobs that no worker has anything of: a crew takes 600 bytes."""


@dataclass(slots=True)
class GuestNeed:
    """Whether a job needs a worker in its caller's memory cgroup, and which one it has.

    Args:
        limit: what it allocates must count against this; None = any worker will do.
        worker: the guest, in whatever state.
        unpaid: its caller has a limit that ordinary workers would evade for it, so that they
            must not allocate by reading a hole of memory through a mapping.
    """

    limit: MemoryLimit | None = None
    worker: Worker | None = None
    deaths: int = 0
    unpaid: bool = False
