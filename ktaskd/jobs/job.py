"""One job while the daemon knows it: its state and its bookkeeping, no decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ktaskd.door.handles import HeldSource
from ktaskd.host.caller import Caller
from ktaskd.jobs import machine
from ktaskd.jobs.check import CheckedJob
from ktaskd.jobs.items import ItemResults
from ktaskd.jobs.parts import Parts
from ktaskd.jobs.steady import Watched
from ktaskd.model.allowance import Allowance, Level, Reason
from ktaskd.model.function import Partial
from ktaskd.model.identity import Identity
from ktaskd.model.job import CpuUsage, JobError, JobId, JobSpec, JobState, Progress
from ktaskd.model.limits import (
    CHUNK_TIME_ALONE_S,
    CHUNK_TIME_DETACHED_S,
    CHUNK_TIME_TARGET_S,
    SHORT_CHUNK_S,
    SPANS_TOLD,
)
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.spans import Span, SpanSet
from ktaskd.planner.cursor import Chunk, Cursor
from ktaskd.planner.plan import Plan
from ktaskd.planner.threads import clamp_to_caller
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


class Job:
    """One job. The engine is the only one that changes it.

    Args:
        jno: its number, ascending with acceptance; workers know it by this.
        now_s: seconds since the epoch.
    """

    guards = 0
    """Callers that wait and whose going cancels the job."""
    detached = True
    chunks_done = recalled = rerun = run_twice = raised = 0
    turns_lost = 0
    """Workers that died in turns of an open-ended job since one of those has ended well."""
    lead_ns = helper_ns = 0
    rescued = False
    """Whether it has a lead although nobody waits: it made no progress for too long."""
    ended_boot_s = 0.0
    """When it ended, by a clock that nobody sets: it is kept for so long after that."""
    lead_limited_s = 0.0
    """Since when it wants a lead and all are taken; 0 = it does not."""
    paced_until_s = paced_since_s = 0.0
    """On the loop's clock: its lead has used what its caller's quota gives until then.
    And since when it goes at that pace; 0 = it does not."""

    disks: Mapping[str, int] = MappingProxyType({})
    """Disks that it reads or writes and that have a limit: the most workers at one time."""
    full_disk = ""
    """The one of them that is why it has no more helpers; "" = none is."""
    result: Json | None = None
    combined: Json | None = None
    """The result with what only finish is told."""
    error: JobError | None = None
    is_cancel = False
    prepared: Json | None = None
    step_watched = False
    _last_progress: Progress | None = None
    places = (False, False, False, False, False)
    """In which of the dispatch's lines it stands."""
    held_bytes = results_bytes = 0
    """What the registry's ledgers count it for, and what of that are results of its chunks."""
    undo_at = 0
    """How far the undo has come: nothing of `to_undo` from here on has been given to a worker."""
    restores = False
    """Whether a step that takes back what the prepare did comes after the calls of the undo."""
    waits = False
    """Whether its owner waits for workers, as to fair shares."""

    def __init__(
        self,
        job_id: JobId,
        jno: int,
        spec: JobSpec,
        checked: CheckedJob,
        owner: Identity,
        sources: Mapping[str, HeldSource],
        items: tuple[HeldSource, ...],
        plan: Plan,
        now_s: float,
        owned: Collection[HeldSource] = (),
    ) -> None:
        """An accepted job; `owned` has each source once, and the job has one reference to each."""
        self.id = job_id
        self.jno = jno
        self.spec = spec
        self.checked = checked
        self.owner = owner
        self.sources = sources
        self.items = items
        self.owned = owned
        self.plan = plan
        self.guest = GuestNeed()
        self.cursor = Cursor(plan)
        self.state = JobState.QUEUED
        self.version = 1
        self.create_s, self.start_s, self.end_s = now_s, 0.0, 0.0
        self.crew = Crew()
        self.done = SpanSet()
        self.holes = SpanSet()
        """What was a hole before the job wrote it."""
        self.reported = SpanSet()
        """Where it is known what was a hole: a second report would see our own writes."""
        self.parts = Parts()
        self.counts_items = checked.told
        self.item_results = ItemResults(checked.ranges if checked.told else ())
        self.watched = Watched()
        self.lost = SpanSet()
        """What workers that died may have changed."""
        self.to_undo, self.undone, self.dirty = SpanSet(), SpanSet(), SpanSet()
        self._cut_undone = self._cut_dirty = Cut()
        self.undo_calls: Iterator[Call] = iter(())
        """Calls of the undo that were not made yet; the next is made when the one before has ended."""
        self.calls: deque[Call] = deque()
        self.attempts: dict[int, int] = {}
        self._rates = {False: 0.0, True: 0.0}
        """Positions a second of a helper, and of the lead; 0 until one has done a chunk."""
        self.caller = Caller(owner.cpus, owner.nid, owner.cpu_quota, owner.priority)
        """Where its owner runs and what it may use, as it was read last."""
        self.threads = plan.threads
        """Workers that it may hold at one time: as planned, and as its caller may use CPUs now."""
        self.again: list[HeldChunk] = []
        """What starved helpers hold and the lead shall run once more."""
        self.allowance: Callable[[], Allowance | None] = lambda: None
        """What the governor allows now."""
        self.watchers: set[Callable[[], None]] = set()

    # -- its life -----------------------------------------------------------

    def step(self, event: machine.Event) -> None:
        """Apply an event to the state, and tell the watchers if that changed it."""
        after = machine.step(self.state, event)
        if after is not self.state:
            self.state = after
            self.touch()

    def touch(self) -> None:
        """Something a watcher may want to know has changed."""
        self.version += 1
        for notify in tuple(self.watchers):
            notify()

    @property
    def waited(self) -> bool:
        """Whether somebody waits for it."""
        return self.guards > 0

    @property
    def has_lead(self) -> bool:
        """Whether it may have a lead, holding one now or not."""
        return self.guards > 0 or self.rescued

    def set_caller(self, caller: Caller) -> bool:
        """Note what its owner may use now; whether that changes how many workers it may hold."""
        before, self.caller = self.threads, caller
        self.threads = clamp_to_caller(self.plan.wanted, caller_cpus(caller))
        return self.threads != before

    @property
    def in_guest(self) -> bool:
        """Whether only a worker in its caller's memory cgroup may do what is to be done.

        Not the undo: that frees memory, and must work where the group is full or gone.
        """
        return self.guest.limit is not None and self.state is not JobState.UNDOING

    @property
    def helpers_max(self) -> int:
        """Helpers that it may hold: one worker of a waited job is its lead.

        Where all leads are taken, a job of one worker has a helper in its lead's place.
        """
        if not self.waited:
            return self.threads
        return max(self.threads - 1, int(bool(self.lead_limited_s)))

    @property
    def writes_nothing(self) -> bool:
        """Whether two workers may run the same chunk at one time."""
        declaration = self.checked.declaration
        again = declaration.partial is Partial.RERUN_SAFE
        return again and not declaration.writes and not declaration.writes_bytes

    # -- chunks -----------------------------------------------------------------

    def rate(self, *, lead: bool) -> float:
        """Positions a second of a worker of this class; 0 = not known yet.

        By class, since a starved helper says nothing of how fast the lead is.
        """
        return self._rates[lead] or self._rates[not lead]

    def next_size(self, *, lead: bool = False, alone: bool = False) -> int:
        """How many positions the next chunk should have, from what was learnt.

        Args:
            alone: no other job wants the workers, and nothing makes them rest.
        """
        rate = self.rate(lead=lead)
        if not rate:
            return self.plan.probe
        # Towards the end ever smaller, so that all workers end together.
        share = -(-self.cursor.left // (2 * self.threads))
        patient_s = CHUNK_TIME_ALONE_S if alone else CHUNK_TIME_DETACHED_S
        target_s = CHUNK_TIME_TARGET_S if self.waited else patient_s
        wanted = max(min(int(rate * target_s), share), int(rate * SHORT_CHUNK_S))
        return min(max(wanted, self.plan.min_chunk), self.plan.chunk)

    def learn(self, positions: int, seconds: float, *, lead: bool) -> None:
        """Note how long a chunk took."""
        rate, known = positions / max(seconds, 1e-6), self._rates[lead]
        self._rates[lead] = 0.5 * (known + rate) if known else rate

    def add_items(self, start: int, texts: list[bytes]) -> None:
        """Note the results of items from `start` on, as JSON; they are told in order."""
        self.version = self.item_results.add(start, texts, self.version)
        self.touch()

    def drop_results(self) -> None:
        """Nobody can ask for the job any more: who still reads its results is sent no more of them."""
        self.item_results.drop()
        self.touch()

    def shrink(self) -> None:
        """Drop what only a running job needs: ended ones are kept for a while."""
        self._last_progress = self.progress
        # What it was run with stays what it was.
        self.plan = replace(self.plan, shares=(), threads=self.threads, wanted=self.threads)
        self.again.clear()
        self.checked = replace(self.checked, ranges=(), arg={})
        self.cursor = Cursor(self.plan)
        self.done = self.holes = self.reported = self.lost = self.to_undo = SpanSet()
        self.undo_calls = iter(())
        self.undone, self._cut_undone = cut(self.undone)
        self.dirty, self._cut_dirty = cut(self.dirty)
        self.parts.clear()
        self.combined = None
        self.attempts.clear()
        self.calls.clear()

    # -- what others see -----------------------------------------------------

    @property
    def progress(self) -> Progress:
        """How far it is, the positions inside running chunks included."""
        if self._last_progress is not None:
            return self._last_progress
        total = self.plan.total
        done = self.done.total + sum(self._inside(worker) for worker in self.crew.held)
        unit = self.checked.position_bytes
        left = self.cursor.left
        at_work = [worker for worker in self.crew.busy if not worker.resting]
        leads = sum(worker.is_lead for worker in at_work)
        return Progress(
            positions_done=min(done, total),
            positions_total=total,
            bytes_done=min(done, total) * unit,
            bytes_total=total * unit,
            chunks_done=self.chunks_done,
            chunks_total=self.chunks_done
            + sum(map(len, self.crew.held.values()))
            + -(-left // max(self.next_size(), 1)),
            running_helpers=len(at_work) - leads,
            running_leads=leads,
        )

    def _inside(self, worker: Worker) -> int:
        seq, position = worker.position
        held = self.crew.held[worker].get(seq)
        if held is None or held.void or (held.twin is not None and worker.is_lead):
            return 0
        return min(max(position - held.chunk.start, 0), held.chunk.end - held.chunk.start)

    @property
    def cpu(self) -> CpuUsage:
        """CPU time spent so far, of chunks and steps that have ended."""
        return CpuUsage(
            self.lead_ns / 1e9, self.helper_ns / 1e9, self.recalled, self.rerun, self.run_twice, self.raised
        )

    def waiting_reasons(self) -> tuple[Reason, ...]:
        """Why it does not run, or runs without its lead."""
        reasons: list[Reason] = []
        if self.state.ended:
            return ()
        if self.lead_limited_s or self._waits_for_lead:
            reasons.append(
                Reason(
                    "LEAD_LIMIT",
                    "all leads that its owner may have are taken",
                    since_s=self.lead_limited_s or self.create_s,
                )
            )
        if self.paced_until_s:
            words = "its lead goes at the pace of its caller's CPU quota"
            value = f"{self.caller.cpu_quota:g} CPUs"
            reasons.append(Reason("CLIENT_LIMIT", words, value, since_s=self.paced_since_s))
        allowance = self.allowance()
        if allowance is not None and allowance.level is not Level.RUN and self.plan.wanted > self.waited:
            reasons += allowance.reasons
        if self.full_disk:
            most = self.disks[self.full_disk]
            words = f"disk {self.full_disk} has all the workers that it may have"
            reasons.append(Reason("DISK_LIMIT", words, f"{most} at work", f"{most}", since_s=self.create_s))
        if self.state is JobState.QUEUED and not reasons:
            reasons.append(
                Reason("WORKERS_BUSY", "all workers that may run it are taken", since_s=self.create_s)
            )
        return tuple(reasons)

    @property
    def _waits_for_lead(self) -> bool:
        alone = self.waited and self.threads == 1
        return self.state is JobState.QUEUED and alone and not self.calls

    def full_result(self) -> Json | None:
        """Job.result: what was combined, or the items if they are not too many."""
        if not self.counts_items or self.state is not JobState.SUCCEEDED or self.item_results.dropped:
            return self.result
        if not self.item_results.fits:
            return {"items_omitted": len(self.item_results)}
        results = [result for _, _, result in self.item_results]
        if self.checked.declaration.whole_files and not self.spec.items:
            return results[0]  # the one file that was named by its role
        return {"items": results}

    def full_error(self) -> JobError | None:
        """The error with what was undone and what is dirty, or the first of it."""
        if self.error is None:
            return None
        (undone, more_undone), (dirty, more_dirty) = cut(self.undone), cut(self.dirty)
        return replace(
            self.error,
            undone=tuple(undone),
            dirty=tuple(dirty),
            undone_omitted=more_undone.omitted + self._cut_undone.omitted,
            dirty_omitted=more_dirty.omitted + self._cut_dirty.omitted,
            undone_hull=self._cut_undone.hull or more_undone.hull,
            dirty_hull=self._cut_dirty.hull or more_dirty.hull,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """What is known of spans that were too many to be named: how many more, and the least span around all."""

    omitted: int = 0
    hull: Span | None = None


def cut(spans: SpanSet) -> tuple[SpanSet, Cut]:
    """The first spans, as many as are named; and what there is in all."""
    if len(spans) <= SPANS_TOLD:
        return spans, Cut(0, spans.hull)
    return SpanSet(spans.first(SPANS_TOLD)), Cut(len(spans) - SPANS_TOLD, spans.hull)


def caller_cpus(caller: Caller) -> int:
    """CPUs that a caller may use itself; 0 = not known.

    The quota is rounded down, so that a job never causes the throttling of its
    own caller's group, but is at least 1.
    """
    counts = [len(caller.cpus)] if caller.cpus else []
    if caller.cpu_quota:
        counts.append(max(int(caller.cpu_quota), 1))
    return min(counts, default=0)
