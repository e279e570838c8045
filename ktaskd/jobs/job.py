"""One job while the daemon knows it: its state and its bookkeeping, no decisions.

Ten thousand jobs may wait at the same time. Attributes that only a job that has begun needs are made
at their first use (`late`), and no job has more than 30 attributes until then: up to that number
Python keeps them without a dict of the object's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.caller import Caller
from ktaskd.jobs import machine
from ktaskd.jobs.accepted import Accepted, Sources
from ktaskd.jobs.crew import NOBODY, Crew, GuestNeed
from ktaskd.jobs.items import ItemResults
from ktaskd.jobs.late import late
from ktaskd.jobs.machine import Event
from ktaskd.jobs.parts import Parts
from ktaskd.jobs.positions import NOTHING_LEFT, Positions
from ktaskd.jobs.queues import Queues
from ktaskd.jobs.steady import Watched
from ktaskd.jobs.steps import Course, Json, Step
from ktaskd.jobs.tally import Tally
from ktaskd.model.checked import CheckedJob
from ktaskd.model.compact import compact
from ktaskd.model.function import Partial
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobError, JobSpec, JobState, Progress
from ktaskd.model.limits import (
    CHUNK_TIME_ALONE_S,
    CHUNK_TIME_DETACHED_S,
    CHUNK_TIME_TARGET_S,
    SHORT_CHUNK_S,
)
from ktaskd.planner.plan import Plan
from ktaskd.planner.threads import clamp_to_caller

_ONLY_OF_A_LIVE_JOB = frozenset({
    "sources", "items", "owned", "crew", "_uncut", "parts", "course", "step",
    "step_attempts", "attempts",
    "_helper_rate", "_lead_rate", "full_disk",
    "lead_limited_s", "paced_until_s", "paced_since_s",
})  # fmt: skip
"""Nobody asks an ended job for these; if somebody does, it has the values that it began with."""


_STOPPED = (JobState.DRAINING, JobState.UNDOING)


class Job:
    """One job. Events edit its books by its methods; only `settling` changes its state."""

    guards = 0
    """Callers that wait and whose going cancels the job."""
    detached = True
    tally: Tally = late(Tally)
    rescued = False
    """Whether it has a lead although nobody waits: it made no progress for too long."""
    start_s = end_s = 0.0
    ended_boot_s = 0.0
    """When it ended, by a clock that nobody sets: it is kept for so long after that."""
    lead_limited_s = 0.0
    """Since when it wants a lead and all are taken; 0 = it does not."""
    paced_until_s = paced_since_s = 0.0
    """On the loop's clock: its lead has used what its caller's quota gives until then.
    And since when it goes at that pace; 0 = it does not."""

    disks: Mapping[str, int] = MappingProxyType({})
    """Disks that it reads or writes and that have a limit: the most workers at the same time."""
    full_disk = ""
    """The disk among them whose limit keeps it from having more helpers; "" = none does."""
    result: Json | None = None
    error: JobError | None = None
    is_cancel = False
    step: Step | None = None
    """The step for the whole job that waits for a worker, or that a worker has in hand."""
    step_attempts = 0
    course: Course = late(Course)
    last_progress: Progress | None = None
    """How far it was when it ended."""
    queues = Queues.NONE
    """In which of the dispatch's queues it stands."""
    held_bytes = results_bytes = 0
    """Bytes that the registry's ledgers count it for, and those of them that are results of its chunks."""
    weight = 1
    """Number of jobs that it counts as in the registry's limits."""
    waits = False
    """Whether its owner counts as waiting for workers, for fair shares."""

    state = JobState.QUEUED
    version = 1
    sources: Mapping[str, HeldSource] = MappingProxyType({})
    items: tuple[HeldSource, ...] = ()
    owned: Collection[HeldSource] = ()
    counts_items = False
    crew = NOBODY
    guest: GuestNeed = late(GuestNeed)
    parts: Parts = late(Parts)
    watched: Watched = late(Watched)
    attempts: dict[int, int] = late(dict)
    watchers: tuple[Callable[[Job], object], ...] = ()
    """Called with the job after each change."""
    _positions: Positions | None = None
    _uncut = 0
    """Positions of the plan, while nobody has asked where each is: a sum over up to 4096 ranges."""
    _item_results: ItemResults | None = None
    _helper_rate = _lead_rate = 0.0
    """Positions a second of a helper, and of the lead; 0 until one has done a chunk."""

    def __init__(
        self,
        accepted: Accepted,
        spec: JobSpec,
        checked: CheckedJob,
        owner: Identity,
        sources: Sources,
        plan: Plan,
    ) -> None:
        """An accepted job, which waits."""
        self.id = accepted.job_id
        self.jno = accepted.jno
        self.allowance = accepted.allowance
        """The governor's allowance as it is now."""
        self.spec = spec
        self.checked = checked
        self.owner = owner
        if sources.owned:
            self.sources, self.items, self.owned = sources.by_role, sources.items, sources.owned
        self.plan = plan
        self._uncut = plan.total
        self.create_s = accepted.at_s
        if checked.has_item_results:
            self.counts_items = True
        self.caller = _caller_of(owner)
        """CPUs, node and quota of its owner, as they were read last."""
        self.threads = plan.threads
        """Workers that it may hold at the same time: as planned, and as its caller may use CPUs now."""

    @property
    def positions(self) -> Positions:
        """The place of each position; made at the first look."""
        if self._positions is None:
            self._positions = Positions(self.plan, self.checked.declaration, undo=self.checked.undo)
        return self._positions

    @property
    def left(self) -> int:
        """How many positions wait; their books are not made for that."""
        return self._positions.left if self._positions is not None else self._uncut

    @property
    def completed(self) -> int:
        """How many positions were completed; their books are not made for that."""
        return self._positions.completed if self._positions is not None else 0

    @property
    def item_results(self) -> ItemResults:
        """The results of its items, as far as they are known."""
        if self._item_results is None:
            self._item_results = ItemResults(self.checked.ranges if self.counts_items else ())
        return self._item_results

    @property
    def results_known(self) -> int:
        """Results of items that are in order."""
        return len(self._item_results) if self._item_results is not None else 0

    @property
    def results_held_bytes(self) -> int:
        """Memory that these results take."""
        return self._item_results.held_bytes if self._item_results is not None else 0

    def muster(self) -> Crew:
        """The job's own crew, for a worker that joins it."""
        if self.crew is NOBODY:
            self.crew = Crew()
        return self.crew

    # -- its life -----------------------------------------------------------

    @property
    def goes_on(self) -> bool:
        """Whether chunks of it may be begun: it runs, and nothing has happened that will stop it."""
        return self.state is JobState.RUNNING and self.error is None

    @property
    def is_stopping(self) -> bool:
        """Whether it is too late for a reason to stop it: the first reason counts."""
        return self.error is not None or self.state in _STOPPED or self.state.ended

    def halt(self, error: JobError, *, cancel: bool = False) -> None:
        """Note why the job is to be stopped, unless there is a reason already."""
        if not self.is_stopping:
            self.error, self.is_cancel = error, cancel

    def set_stuck(self, error: JobError) -> None:
        """Note that a worker is not seen dead, which counts more than any other reason."""
        if self.error is None or self.error.reason != "WORKER_STUCK":
            self.error = error

    def begin(self, start_s: float) -> None:
        """The first worker is about to get something of it."""
        self.start_s = start_s
        self.watched.begin(self.checked, self.sources)

    def apply(self, event: Event) -> None:
        """Go on to the state that an event leads to."""
        self.state = machine.step(self.state, event)

    def set_step(self, step: Step | None, *, again: bool = False) -> None:
        """Have a step done; `again` = by another worker, or by the same one later."""
        self.step = step
        if not again:
            self.step_attempts = 0

    def take_step(self) -> Step:
        """The step that a worker has ended, one way or the other."""
        step, self.step = self.step, None
        assert step is not None
        return step

    def begin_step(self) -> Step:
        """The step that a worker is given."""
        assert self.step is not None
        self.step_attempts += 1
        return self.step

    def guard(self) -> None:
        """Somebody waits for it."""
        self.guards += 1
        self.detached = False

    def unguard(self) -> None:
        """A waiter has gone."""
        self.guards -= 1

    def set_rescued(self, rescued: bool) -> None:
        """Let it have a lead although nobody waits, or no longer."""
        self.rescued = rescued

    def touch(self) -> None:
        """Something a watcher may want to know has changed."""
        self.version += 1
        for notify in self.watchers:
            notify(self)

    def watch(self, notify: Callable[[Job], object]) -> None:
        """Have `notify` called with the job after each change."""
        self.watchers = (*self.watchers, notify)

    def unwatch(self, notify: Callable[[Job], object]) -> None:
        """Call it no more; one that is not called does no harm."""
        self.watchers = tuple(other for other in self.watchers if other != notify)

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
        """Whether two workers may run the same chunk at the same time."""
        declaration = self.checked.declaration
        again = declaration.partial is Partial.RERUN_SAFE
        return again and not declaration.writes and not declaration.writes_bytes

    # -- chunks -----------------------------------------------------------------

    def rate(self, *, lead: bool) -> float:
        """Positions a second of a worker of this class; 0 = not known yet.

        By class, since a starved helper says nothing of how fast the lead is.
        """
        if lead:
            return self._lead_rate or self._helper_rate
        return self._helper_rate or self._lead_rate

    def next_size(self, *, lead: bool = False, alone: bool = False) -> int:
        """How many positions the next chunk should have, from what was learnt.

        Args:
            alone: no other job wants the workers, and nothing makes them rest.
        """
        rate = self.rate(lead=lead)
        if not rate:
            return self.plan.probe
        # Towards the end ever smaller, so that all workers end together.
        share = -(-self.left // (2 * self.threads))
        patient_s = CHUNK_TIME_ALONE_S if alone else CHUNK_TIME_DETACHED_S
        target_s = CHUNK_TIME_TARGET_S if self.waited else patient_s
        wanted = max(min(int(rate * target_s), share), int(rate * SHORT_CHUNK_S))
        return min(max(wanted, self.plan.min_chunk), self.plan.chunk)

    def learn(self, positions: int, seconds: float, *, lead: bool) -> None:
        """Note how long a chunk took."""
        rate, known = positions / max(seconds, 1e-6), self._lead_rate if lead else self._helper_rate
        rate = 0.5 * (known + rate) if known else rate
        if lead:
            self._lead_rate = rate
        else:
            self._helper_rate = rate

    def add_items(self, start: int, texts: list[bytes]) -> None:
        """Note the results of items from `start` on, as JSON; they are sent in order."""
        self.version = self.item_results.add(start, texts, self.version)
        self.touch()

    def drop_results(self) -> None:
        """Nobody can ask for the job any more: a client that still reads its results gets no more of them."""
        if self._item_results is not None:
            self._item_results.drop()
        self.touch()

    def end(self, end_s: float, boot_s: float, progress: Progress) -> None:
        """Drop what only a running job needs: ended ones are kept for a while.

        Args:
            end_s: seconds since the epoch.
            boot_s: the same by a clock that nobody sets.
            progress: how far it has come.
        """
        self.end_s, self.ended_boot_s = end_s, boot_s
        self.last_progress = progress
        # The number of threads that it was run with stays as it was.
        self.plan = replace(self.plan, parts=(), threads=self.threads, wanted=self.threads)
        self.checked = replace(self.checked, ranges=(), arg=compact({}))
        self._positions = self._positions.remains() if self._positions is not None else NOTHING_LEFT
        kept = {name: value for name, value in vars(self).items() if name not in _ONLY_OF_A_LIVE_JOB}
        if not self.watched.warnings:
            kept.pop("watched", None)
        if self.guest.limit is None:  # otherwise its death may be reported after the end
            kept.pop("guest", None)
        # A dict does not become smaller when entries go.
        self.__dict__ = kept


@lru_cache(maxsize=64)
def _caller_of(owner: Identity) -> Caller:
    """The limits of a caller as of its connection; one object for all jobs of that connection."""
    return Caller(owner.cpus, owner.nid, owner.cpu_quota, owner.priority)


def caller_cpus(caller: Caller) -> int:
    """CPUs that a caller may use itself; 0 = not known.

    The quota is rounded down, so that a job never causes the throttling of its
    own caller's group, but is at least 1.
    """
    counts = [len(caller.cpus)] if caller.cpus else []
    if caller.cpu_quota:
        counts.append(max(int(caller.cpu_quota), 1))
    return min(counts, default=0)
