"""One job while the daemon knows it: its state and its bookkeeping, no decisions.

Ten thousand jobs may wait at the same time. What only a job that has begun needs is made when it
is first used (`late`), and no job has more than 30 attributes until then: up to that number
Python keeps them without a dict of the object's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.caller import Caller
from ktaskd.jobs import machine, told
from ktaskd.jobs.crew import NOBODY, Call, Calls, Crew, GuestNeed, HeldChunk, Json
from ktaskd.jobs.items import ItemResults
from ktaskd.jobs.late import late
from ktaskd.jobs.parts import Parts
from ktaskd.jobs.positions import NOTHING_LEFT, Positions
from ktaskd.jobs.steady import Watched
from ktaskd.model.allowance import Allowance, Reason
from ktaskd.model.checked import CheckedJob
from ktaskd.model.compact import compact
from ktaskd.model.function import Partial
from ktaskd.model.identity import Identity
from ktaskd.model.job import CpuUsage, JobError, JobId, JobSpec, JobState, Progress
from ktaskd.model.limits import (
    CHUNK_TIME_ALONE_S,
    CHUNK_TIME_DETACHED_S,
    CHUNK_TIME_TARGET_S,
    SHORT_CHUNK_S,
)
from ktaskd.planner.plan import Plan
from ktaskd.planner.threads import clamp_to_caller

__all__ = ["Call", "Crew", "GuestNeed", "HeldChunk", "Job", "Json", "caller_cpus"]

_ONLY_OF_A_LIVE_JOB = frozenset({
    "sources", "items", "owned", "allowance", "crew", "_uncut", "parts", "restores", "calls", "attempts",
    "combined", "_helper_rate", "_lead_rate", "step_watched", "full_disk",
    "lead_limited_s", "paced_until_s", "paced_since_s",
})  # fmt: skip
"""What an ended job is not asked for; if it is, it has what it began with."""


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
    start_s = end_s = 0.0
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
    weight = 1
    """How many jobs it counts for in the registry's bounds."""
    restores = False
    """Whether a step that takes back what the prepare did comes after the calls of the undo."""
    waits = False
    """Whether its owner waits for workers, as to fair shares."""

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
    calls: Calls = late(Calls)
    attempts: dict[int, int] = late(dict)
    allowance: Callable[[], Allowance | None] = staticmethod(lambda: None)
    """What the governor allows now."""
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
        if sources or items:
            self.sources, self.items, self.owned = sources, items, owned
        self.plan = plan
        self._uncut = plan.total
        self.create_s = now_s
        if checked.has_item_results:
            self.counts_items = True
        self.caller = _caller_of(owner)
        """Where its owner runs and what it may use, as it was read last."""
        self.threads = plan.threads
        """Workers that it may hold at one time: as planned, and as its caller may use CPUs now."""

    @property
    def positions(self) -> Positions:
        """Where each position is; made at the first look."""
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
        """What is known of its items."""
        if self._item_results is None:
            self._item_results = ItemResults(self.checked.ranges if self.counts_items else ())
        return self._item_results

    @property
    def results_known(self) -> int:
        """Results of items that are in order."""
        return len(self._item_results) if self._item_results is not None else 0

    @property
    def results_held_bytes(self) -> int:
        """What those take in memory."""
        return self._item_results.held_bytes if self._item_results is not None else 0

    def muster(self) -> Crew:
        """The job's own crew, for a worker that joins it."""
        if self.crew is NOBODY:
            self.crew = Crew()
        return self.crew

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
        """Whether two workers may run the same chunk at one time."""
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
        """Note the results of items from `start` on, as JSON; they are told in order."""
        self.version = self.item_results.add(start, texts, self.version)
        self.touch()

    def drop_results(self) -> None:
        """Nobody can ask for the job any more: who still reads its results is sent no more of them."""
        if self._item_results is not None:
            self._item_results.drop()
        self.touch()

    def shrink(self) -> None:
        """Drop what only a running job needs: ended ones are kept for a while."""
        self._last_progress = self.progress
        # What it was run with stays what it was.
        self.plan = replace(self.plan, shares=(), threads=self.threads, wanted=self.threads)
        self.checked = replace(self.checked, ranges=(), arg=compact({}))
        self._positions = self._positions.remains() if self._positions is not None else NOTHING_LEFT
        kept = {name: value for name, value in vars(self).items() if name not in _ONLY_OF_A_LIVE_JOB}
        if not self.watched.told:
            kept.pop("watched", None)
        if self.guest.limit is None:  # else its death may be told after the end
            kept.pop("guest", None)
        # A dict does not become smaller when entries go.
        self.__dict__ = kept

    # -- what others see -----------------------------------------------------

    @property
    def progress(self) -> Progress:
        """How far it is, the positions inside running chunks included."""
        return self._last_progress or told.progress(self)

    @property
    def cpu(self) -> CpuUsage:
        """CPU time spent so far, of chunks and steps that have ended."""
        return CpuUsage(
            self.lead_ns / 1e9, self.helper_ns / 1e9, self.recalled, self.rerun, self.run_twice, self.raised
        )

    def waiting_reasons(self) -> tuple[Reason, ...]:
        """Why it does not run, or runs without its lead."""
        return told.waiting_reasons(self)

    def full_result(self) -> Json | None:
        """Job.result: what was combined, or the items if they are not too many."""
        return told.full_result(self)

    def full_error(self) -> JobError | None:
        """The error with what was undone and what is dirty, or the first of it."""
        return told.full_error(self)


@lru_cache(maxsize=64)
def _caller_of(owner: Identity) -> Caller:
    """What a caller may use as of its connection; one object for all jobs of that."""
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
