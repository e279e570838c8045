"""Who works on a job: chunks and steps in the hands of workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ktaskd.model.memory import MemoryLimit
from ktaskd.model.spans import Span
from ktaskd.planner.cursor import Chunk
from ktaskd.pool.link import Worker

Json = dict[str, Any]


@dataclass(slots=True, eq=False)
class HeldChunk:
    """A chunk that a worker holds. `sent_s` is when it could begin with it."""

    chunk: Chunk
    sent_s: float
    worker: Worker
    charged_s: float = 0.0
    """What its owner was charged ahead for it, in CPU seconds."""
    twin: HeldChunk | None = None
    """The same chunk in the hands of another worker: the first that ends it wins."""
    void: bool = False
    """Whether its twin was faster, so that its answer counts for nothing any more."""


@dataclass(slots=True)
class Call:
    """A step that one worker does for the whole job."""

    op: str
    payload: Json
    on_value: Callable[[Json], None]
    span: Span | None = None
    attempts: int = 0


class Calls(list[Call]):
    """The steps that wait, the next one first. A job has one or two at a time, most have none.

    An empty deque takes 624 bytes, and this 56.
    """

    __slots__ = ()

    def popleft(self) -> Call:
        """Take the next one."""
        return self.pop(0)

    def appendleft(self, call: Call) -> None:
        """Have one done before all others."""
        self.insert(0, call)


@dataclass(slots=True)
class Crew:
    """The workers that have something of a job in hand.

    Invariant: a worker is in at most one crew, and in one exactly if it is BUSY.
    """

    lead: Worker | None = None
    helpers: set[Worker] = field(default_factory=set)
    held: dict[Worker, dict[int, HeldChunk]] = field(default_factory=dict)
    call_worker: Worker | None = None
    call_seq: int = 0
    told: set[Worker] = field(default_factory=set)

    @property
    def busy(self) -> set[Worker]:
        """Everybody who may touch a source of the job now."""
        workers = {worker for worker, chunks in self.held.items() if chunks}
        if self.call_worker is not None:
            workers.add(self.call_worker)
        return workers


class _Nobody(set[Worker]):
    def add(self, _: Worker) -> NoReturn:
        raise AssertionError("a worker joins a job that has no crew of its own")


class _Nothing(dict[Worker, dict[int, HeldChunk]]):
    def setdefault(self, *_: object) -> NoReturn:
        raise AssertionError("a worker holds something of a job that has no crew of its own")

    __setitem__ = setdefault


NOBODY = Crew(helpers=_Nobody(), held=_Nothing(), told=_Nobody())
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
