"""The workers that hold the chunks of one job, and whose answer counts. Pure: sends nothing, reads no clock.

Two workers may hold the same chunk: if the function writes nothing, the lead may run a starved
helper's chunk as well. The two are each other's *twin*. The first to finish wins, and the other's
answer is *void*. If one gives the chunk back, its twin does all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from ktaskd.jobs.ports import Worker
from ktaskd.model.memory import MemoryLimit
from ktaskd.planner.cursor import Chunk


@dataclass(slots=True, eq=False)
class HeldChunk:
    """A chunk that a worker holds. `sent_s` is the time from which the worker could work on it."""

    chunk: Chunk
    sent_s: float
    worker: Worker
    charged_s: float = 0.0
    """CPU seconds that the job's owner was charged in advance."""
    twin: HeldChunk | None = None
    """The same chunk, held by another worker: the first to finish it wins."""
    is_lease: bool = False
    """Whether the worker reports parts of it, and its end may be moved: `chunk` is what is left of it."""
    is_sole: bool = False
    """Of a lease: whether it is the whole job, and its worker may combine the result."""
    is_fixed: bool = False
    """Of a lease: whether its end cannot be moved, since its worker might not see that in time."""
    slice_s: float = 0.0
    """Of a lease: time after which its worker gives the rest back; 0 = no limit."""
    void: bool = False
    """Whether its twin was faster, so that this worker's answer is ignored."""

    @property
    def is_movable(self) -> bool:
        """Whether it is a lease whose end may be moved: no other worker has the same positions."""
        return self.is_lease and not (self.is_fixed or self.twin or self.void)


class Verdict(NamedTuple):
    """The worth of an answer on a chunk.

    Args:
        counts: the answer is recorded; otherwise it is ignored.
        to_recall: the worker that holds the twin, whose answer is void from now on; None = no worker.
    """

    counts: bool
    to_recall: Worker | None = None


_COUNTS, _IS_VOID, _TWIN_DOES_IT = Verdict(True), Verdict(False), Verdict(False)


@dataclass(slots=True)
class Crew:
    """The workers that hold a part of one job.

    Invariant: a worker is in at most one crew, and in one exactly if it is BUSY.
    """

    lead: Worker | None = None
    helpers: set[Worker] = field(default_factory=set)
    held: dict[Worker, dict[int, HeldChunk]] = field(default_factory=dict)
    step_worker: Worker | None = None
    step_seq: int = 0
    introduced: set[Worker] = field(default_factory=set)
    """Workers that were sent the job, and have to forget it when it ends."""
    to_duplicate: list[HeldChunk] = field(default_factory=list)
    """Chunks of starved helpers that the lead will run as well."""

    @property
    def busy(self) -> set[Worker]:
        """All workers that may touch a source of the job now."""
        workers = {worker for worker, chunks in self.held.items() if chunks}
        if self.step_worker is not None:
            workers.add(self.step_worker)
        return workers

    # -- chunks ---------------------------------------------------------------

    def holding(self, worker: Worker, seq: int) -> HeldChunk | None:
        """Return the chunk that a worker holds under this number; None = it holds none."""
        chunks = self.held.get(worker)
        return chunks.get(seq) if chunks else None

    def give(self, worker: Worker, seq: int, held: HeldChunk) -> None:
        """Record that a worker was sent a chunk under this number."""
        self.held[worker][seq] = held

    def take(self, worker: Worker, seq: int) -> HeldChunk | None:
        """Record that a worker has answered and no longer holds this chunk."""
        chunks = self.held.get(worker)
        return chunks.pop(seq, None) if chunks else None

    @property
    def leases(self) -> Iterator[HeldChunk]:
        """All leases whose end may be moved."""
        for chunks in self.held.values():
            yield from (held for held in chunks.values() if held.is_movable)

    def settle(self, held: HeldChunk, *, whole: bool) -> Verdict:
        """Decide whether an answer on a chunk, or the death of its worker, counts.

        Args:
            whole: the worker has finished or failed the whole chunk; False = it gave a part back or died.
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
        """Have the lead run the chunks of a worker as well, unless they have a twin or are void."""
        chunks = self.held.get(worker, {}).values()
        self.to_duplicate += [
            held
            for held in chunks
            if held.twin is None and not held.void and held.chunk.start < held.chunk.end
        ]

    def take_duplicate(self) -> HeldChunk:
        """Return the next chunk that the lead has to run as well."""
        return self.to_duplicate.pop(0)

    @staticmethod
    def pair(held: HeldChunk, twin: HeldChunk) -> None:
        """Record that the lead holds the same chunk now."""
        held.twin, twin.twin = twin, held

    def holds_only_empty(self, worker: Worker) -> bool:
        """Whether a worker holds a lease, and nothing is left of it."""
        chunks = self.held.get(worker, {}).values()
        return bool(chunks) and all(held.is_lease and held.chunk.start >= held.chunk.end for held in chunks)

    def holds_only_void(self, worker: Worker) -> bool:
        """Whether a worker holds chunks, all of them void."""
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
"""One empty crew for all jobs that no worker holds a part of, since a crew takes 600 bytes."""


@dataclass(slots=True)
class GuestNeed:
    """Whether a job needs a worker in its caller's memory cgroup, and which one it has.

    Args:
        limit: the job's allocations must count against this limit; None = any worker will do.
        worker: the guest, in any state; None = there is none.
        unpaid: ordinary workers would evade the caller's limit if they allocated. So they must not
            read holes of memory through a mapping, which allocates.
    """

    limit: MemoryLimit | None = None
    worker: Worker | None = None
    deaths: int = 0
    unpaid: bool = False
