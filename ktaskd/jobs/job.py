"""One job as long as the daemon remembers it: its state and its books, no decisions.

Ten thousand jobs may wait at the same time. Attributes that only a begun job needs are made at their
first use (`late`). Until then a job has at most 30 attributes: up to that number Python needs no dict
for the object.
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
from ktaskd.jobs.history import Record
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
from ktaskd.planner.plan import Plan
from ktaskd.planner.saturation import Saturation
from ktaskd.planner.threads import clamp_to_caller

_ONLY_OF_A_LIVE_JOB = frozenset({
    "sources", "items", "owned", "crew", "_uncut", "parts", "course", "step",
    "step_attempts", "attempts",
    "_helper_rate", "_lead_rate", "full_disk",
    "lead_limited_s", "paced_until_s", "paced_since_s", "saturation",
})  # fmt: skip
"""Attributes that an ended job drops. Reading one gives the value that a new job begins with."""


_STOPPED = (JobState.DRAINING, JobState.UNDOING)


class Job:
    """One job. Events edit its books through its methods; only `settling` changes its state."""

    guards = 0
    """Number of waiting callers that cancel the job if they go away."""
    detached = True
    tally: Tally = late(Tally)
    rescued = False
    """Whether it may have a lead although no caller waits, since it made no progress for too long."""
    start_s = end_s = 0.0
    ended_boot_s = 0.0
    """When it ended, by CLOCK_BOOTTIME, from which the time counts that it is kept."""
    lead_limited_s = 0.0
    """Since when it waits for a lead while all are taken; 0 = it does not."""
    paced_until_s = paced_since_s = 0.0
    """Until when its lead is held back by the caller's CPU quota, on the loop's clock, and since when
    (seconds since the epoch); 0 = it is not."""

    saturation: Saturation | None = None
    """How many workers make it faster; None = it has not had several for long enough."""
    disks: Mapping[str, int] = MappingProxyType({})
    """Disks with a limit that it reads or writes, each with the most workers at the same time."""
    full_disk = ""
    """The disk whose limit keeps it from having more helpers; "" = none does."""
    result: Json | None = None
    error: JobError | None = None
    is_cancel = False
    step: Step | None = None
    """The step for the whole job that waits for a worker or is being done."""
    step_attempts = 0
    course: Course = late(Course)
    last_progress: Progress | None = None
    """Its progress when it ended."""
    queues = Queues.NONE
    """The dispatch's queues that it is in."""
    held_bytes = results_bytes = 0
    """Bytes that the registry counts for it, and the part of them that is results of its chunks."""
    weight = 1
    """Number of jobs that it counts as in the registry's limits."""
    record: Record = late(Record)
    """Its history."""
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
    """Positions of the plan, while `positions` is not made: a sum over up to 4096 ranges."""
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
        """Start as an accepted job that waits."""
        self.id = accepted.job_id
        self.jno = accepted.jno
        self.allowance = accepted.allowance
        """Returns the governor's present allowance."""
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
        """CPUs, node and quota of its owner, as read last."""
        self.threads = plan.threads
        """Workers that it may hold at the same time: as planned, and as its caller may use CPUs now."""

    @property
    def positions(self) -> Positions:
        """The books of its positions; made at the first use."""
        if self._positions is None:
            self._positions = Positions(self.plan, self.checked.declaration, undo=self.checked.undo)
        return self._positions

    @property
    def left(self) -> int:
        """How many positions wait. Does not make the books."""
        return self._positions.left if self._positions is not None else self._uncut

    @property
    def completed(self) -> int:
        """How many positions were completed. Does not make the books."""
        return self._positions.completed if self._positions is not None else 0

    @property
    def item_results(self) -> ItemResults:
        """The results of its items so far."""
        if self._item_results is None:
            self._item_results = ItemResults(self.checked.ranges if self.counts_items else ())
        return self._item_results

    @property
    def results_known(self) -> int:
        """Number of results of items that are in order."""
        return len(self._item_results) if self._item_results is not None else 0

    @property
    def results_held_bytes(self) -> int:
        """Bytes of memory that these results take."""
        return self._item_results.held_bytes if self._item_results is not None else 0

    def muster(self) -> Crew:
        """Return the job's own crew, for a worker that joins it."""
        if self.crew is NOBODY:
            self.crew = Crew()
        return self.crew

    # -- its life -----------------------------------------------------------

    @property
    def goes_on(self) -> bool:
        """Whether its chunks may be begun: it is running, and there is no reason to stop it."""
        return self.state is JobState.RUNNING and self.error is None

    @property
    def is_stopping(self) -> bool:
        """Whether it has ended or has a reason to stop already: the first reason counts."""
        return self.error is not None or self.state in _STOPPED or self.state.ended

    def halt(self, error: JobError, *, cancel: bool = False) -> None:
        """Note why the job has to stop, unless there is a reason already."""
        if not self.is_stopping:
            self.error, self.is_cancel = error, cancel

    def set_stuck(self, error: JobError) -> None:
        """Note that a killed worker is not dead, which replaces any other reason."""
        if self.error is None or self.error.reason != "WORKER_STUCK":
            self.error = error

    def begin(self, start_s: float) -> None:
        """Note that the first worker is about to get a part of the job."""
        self.start_s = start_s
        self.watched.begin(self.checked, self.sources)

    def apply(self, event: Event) -> None:
        """Change to the state that an event leads to."""
        self.state = machine.step(self.state, event)

    def set_step(self, step: Step | None, *, again: bool = False) -> None:
        """Set the step to do; `again` = by another worker, or by the same one later."""
        self.step = step
        if not again:
            self.step_attempts = 0

    def take_step(self) -> Step:
        """Remove and return the step that a worker has ended, successfully or not."""
        step, self.step = self.step, None
        assert step is not None
        return step

    def begin_step(self) -> Step:
        """Return the step for a worker that begins it."""
        assert self.step is not None
        self.step_attempts += 1
        return self.step

    def guard(self) -> None:
        """Note that a caller waits for it."""
        self.guards += 1
        self.detached = False

    def unguard(self) -> None:
        """Note that a waiter has gone."""
        self.guards -= 1

    def set_rescued(self, rescued: bool) -> None:
        """Set whether it may have a lead although no caller waits."""
        self.rescued = rescued

    def touch(self) -> None:
        """Notify the watchers of a change."""
        self.version += 1
        for notify in self.watchers:
            notify(self)

    def watch(self, notify: Callable[[Job], object]) -> None:
        """Have `notify` called with the job after each change."""
        self.watchers = (*self.watchers, notify)

    def unwatch(self, notify: Callable[[Job], object]) -> None:
        """Stop calling `notify`; ignored if it is not called."""
        self.watchers = tuple(other for other in self.watchers if other != notify)

    @property
    def waited(self) -> bool:
        """Whether a caller waits for it."""
        return self.guards > 0

    @property
    def has_lead(self) -> bool:
        """Whether it may have a lead, whether or not it has one now."""
        return self.guards > 0 or self.rescued

    def set_caller(self, caller: Caller) -> bool:
        """Note what its owner may use now; return whether that changes how many workers it may hold."""
        before, self.caller = self.threads, caller
        self.threads = clamp_to_caller(self.plan.wanted, caller_cpus(caller))
        return self.threads != before

    @property
    def in_guest(self) -> bool:
        """Whether only a worker in its caller's memory cgroup may do the next work.

        False in the undo, which frees memory and has to work even if the group is full or gone.
        """
        return self.guest.limit is not None and self.state is not JobState.UNDOING

    @property
    def helpers_max(self) -> int:
        """Helpers that it may hold: one worker of a waited job has to be its lead.

        If all leads are taken, a job of one worker has a helper instead of its lead.
        """
        threads = self.threads_paying
        return threads if not self.waited else max(threads - 1, int(bool(self.lead_limited_s)))

    @property
    def threads_paying(self) -> int:
        """Workers that it may hold, less those that make it no faster."""
        limit = self.saturation.limit if self.saturation is not None else 0
        return min(self.threads, limit or self.threads)

    @property
    def writes_nothing(self) -> bool:
        """Whether its function writes nothing, so that two workers may run the same chunk."""
        declaration = self.checked.declaration
        again = declaration.partial is Partial.RERUN_SAFE
        return again and not declaration.writes and not declaration.writes_bytes

    # -- chunks -----------------------------------------------------------------

    @property
    def has_leases(self) -> bool:
        """Whether its workers get leases, and not chunks."""
        declaration = self.checked.declaration
        return declaration.quantum > 0 and not (declaration.foreign or self.counts_items)

    @property
    def combines_alone(self) -> bool:
        """Whether the worker that does all of the job may combine the result: no step comes between."""
        declaration = self.checked.declaration
        return declaration.combine and not (declaration.lifecycle or self.counts_items)

    def rate(self, *, lead: bool) -> float:
        """Return the positions a second of a worker of this class; 0 = not known yet.

        By class, since the rate of a starved helper is no measure for the lead.
        """
        if lead:
            return self._lead_rate or self._helper_rate
        return self._helper_rate or self._lead_rate

    def learn(self, positions: int, seconds: float, *, lead: bool) -> None:
        """Update the rate by the time that a chunk took."""
        rate, known = positions / max(seconds, 1e-6), self._lead_rate if lead else self._helper_rate
        rate = 0.5 * (known + rate) if known else rate
        if lead:
            self._lead_rate = rate
        else:
            self._helper_rate = rate

    def add_items(self, start: int, texts: list[bytes]) -> None:
        """Add the results of items from `start` on, as JSON; they are sent in order."""
        self.version = self.item_results.add(start, texts, self.version)
        self.touch()

    def drop_results(self) -> None:
        """Free the results of a forgotten job; a client that is reading them gets no more."""
        if self._item_results is not None:
            self._item_results.drop()
        self.touch()

    def end(self, end_s: float, boot_s: float, progress: Progress) -> None:
        """Drop everything that only a running job needs, since ended jobs are kept for a while.

        Args:
            end_s: seconds since the epoch.
            boot_s: the same time by CLOCK_BOOTTIME.
            progress: its last progress.
        """
        self.end_s, self.ended_boot_s = end_s, boot_s
        self.last_progress = progress
        # The number of threads that it ran with stays visible.
        self.plan = replace(self.plan, parts=(), threads=self.threads, wanted=self.threads)
        self.checked = replace(self.checked, ranges=(), arg=compact({}))
        self._positions = self._positions.remains() if self._positions is not None else NOTHING_LEFT
        kept = {name: value for name, value in vars(self).items() if name not in _ONLY_OF_A_LIVE_JOB}
        if not self.watched.warnings:
            kept.pop("watched", None)
        if self.guest.limit is None:  # otherwise its death may be reported after the end
            kept.pop("guest", None)
        # A dict does not shrink when entries are deleted.
        self.__dict__ = kept


@lru_cache(maxsize=64)
def _caller_of(owner: Identity) -> Caller:
    """Return a caller's limits as read at its connection; one object for all jobs of that connection."""
    return Caller(owner.cpus, owner.nid, owner.cpu_quota, owner.priority)


def caller_cpus(caller: Caller) -> int:
    """Return the number of CPUs that a caller may use itself; 0 = not known.

    The quota is rounded down, so that a job never causes the throttling of its
    own caller's group, but is at least 1.
    """
    counts = [len(caller.cpus)] if caller.cpus else []
    if caller.cpu_quota:
        counts.append(max(int(caller.cpu_quota), 1))
    return min(counts, default=0)
