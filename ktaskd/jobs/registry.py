"""The jobs that the daemon remembers, and which callers may see them. Reads no clock."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from ktaskd.jobs.job import Job
from ktaskd.jobs.quota import JointQuota, Quota, mebibytes
from ktaskd.jobs.weight import kept_bytes, live_bytes
from ktaskd.model.errors import JobUnknown, QueueFull, QuotaFull, RequestIdReused
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobError, JobSpec, JobState
from ktaskd.model.limits import ACCOUNT_BYTES, JOB_RESULTS_BYTES_MAX, KEPT_BYTES, LIVE_BYTES

_PARTS_PER_JOB = 64
_TEXT_PER_JOB = 8192
"""A job counts as one more for each this many ranges and items, and this many characters."""

LOOK_JOBS = 200
"""Jobs that one step of a List looks at, which takes half a millisecond."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds on jobs; the configuration's section "jobs".

    Args:
        queued: jobs that have not ended, of all uids. A large job, with many
            ranges or items or with long texts, counts as several.
        queued_per_uid: jobs of one uid that have not ended, counted the same way.
        kept: ended jobs that are remembered, of all uids, counted the same way.
            Beyond that, the oldest of the account with the most ended jobs are forgotten.
        keep_s: seconds that an ended job is remembered.
    """

    queued: int = 20_000
    queued_per_uid: int = 10_000
    kept: int = 2_000
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Query:
    """The filter of a `List` request; empty fields match all jobs."""

    states: frozenset[JobState] = frozenset()
    function: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    before_jno: int = 0
    limit: int = field(default=100)


@dataclass(frozen=True, slots=True)
class Page:
    """The jobs that one step of a List found, newest first.

    Args:
        next_jno: the `before_jno` of the next step; 0 = nothing is left.
        looked: jobs that were looked at.
    """

    jobs: Sequence[Job]
    next_jno: int
    looked: int


class _Index:
    """Jobs by number, any of which can be removed."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        insort(self._jobs, job, key=_jno)

    def remove(self, job: Job) -> None:
        place = bisect_left(self._jobs, job.jno, key=_jno)
        if self._jobs[place : place + 1] == [job]:
            del self._jobs[place]

    def newest(self, before_jno: int, most: int) -> list[Job]:
        """Return up to `most` jobs with a smaller number, newest first; 0 = of all jobs."""
        end = bisect_left(self._jobs, before_jno, key=_jno) if before_jno else len(self._jobs)
        return self._jobs[max(end - most, 0) : end][::-1]


_jno: Callable[[Job], int] = attrgetter("jno")


class Registry:
    """Every accepted job until it is forgotten, by id and by request_id."""

    def __init__(self, limits: JobLimits, admin_uids: frozenset[int]) -> None:
        """Start without jobs. `admin_uids` may see the jobs of all users."""
        self.limits = limits
        self.held = JointQuota(ACCOUNT_BYTES)
        """Bytes that each account holds in jobs, ended or not, and in requests that are being read."""
        self.live, self.kept_memory = Quota(LIVE_BYTES, self.held), Quota(KEPT_BYTES)
        self.on_freed: Callable[[int], None] = lambda _: None
        """Called with a number of bytes that a job has just released."""
        self._admin_uids = admin_uids
        self._by_id: dict[str, Job] = {}
        self._all = _Index()
        self._of_uid: dict[int, _Index] = {}
        self._by_request: dict[tuple[int, str], tuple[Job, bytes]] = {}
        self._running: dict[str, Job] = {}
        # All of these are by account: the uids of one account share its limits.
        self._unended: Counter[int] = Counter()
        self._unended_weight = 0
        self._ended: dict[str, Job] = {}
        self._ended_of: dict[int, dict[str, Job]] = {}
        self._kept_of: Counter[int] = Counter()
        self._kept_weight = 0

    def __iter__(self) -> Iterator[Job]:
        """Iterate over all jobs, oldest first."""
        return iter(tuple(self._by_id.values()))

    @property
    def running(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        return list(self._running.values())

    @property
    def ended(self) -> Iterator[Job]:
        """The ended jobs that are remembered, the newest first."""
        return reversed(self._ended.values())

    @property
    def unended(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._running)

    @property
    def kept(self) -> int:
        """Number of jobs that have ended and are remembered."""
        return len(self._ended)

    # -- room -------------------------------------------------------------------------

    def check_room(self, who: Identity, count: int = 0) -> None:
        """Raise QuotaFull or QueueFull if one more job, of `count` bytes, would exceed a limit."""
        unended = self._unended[who.payer]
        if unended >= self.limits.queued_per_uid:
            raise QuotaFull(
                f"uid {who.uid} has {unended} unfinished jobs (limit {self.limits.queued_per_uid}); "
                "submit it again when some of them have ended"
            )
        if self._unended_weight >= self.limits.queued:
            raise QueueFull(
                f"all users together have {self._unended_weight} unfinished jobs "
                f"(limit {self.limits.queued}); submit it again when some of them have ended"
            )
        if not self.live.has_room(who.payer, count):
            raise QuotaFull(
                f"memory: the unfinished jobs of uid {who.uid} hold {mebibytes(self.live.of(who.payer))}, "
                f"this one needs {mebibytes(count)} (limit {mebibytes(self.live.bound(who.payer))}); "
                "submit it again when some of them have ended"
            )

    def hold(self, job: Job, count: int) -> bool:
        """Charge bytes that an unfinished job is about to hold; return False if that exceeds a limit."""
        if not self.live.has_room(job.owner.payer, count):
            return False
        job.held_bytes += count
        self.live.charge(job.owner.payer, count)
        return True

    def hold_results(self, job: Job, count: int) -> JobError | None:
        """Charge bytes of results; return the error that the job fails with if that exceeds a limit."""
        job.results_bytes += count
        if job.results_bytes > JOB_RESULTS_BYTES_MAX and job.counts_items:
            held, bound = job.results_bytes, JOB_RESULTS_BYTES_MAX
        elif self.hold(job, count):
            return None
        else:
            held, bound = self.live.of(job.owner.payer) + count, self.live.bound(job.owner.payer)
        whose = "this job" if bound == JOB_RESULTS_BYTES_MAX else "this user's unfinished jobs"
        return JobError(
            "RESULT_TOO_LARGE",
            f"results: {whose} would hold {mebibytes(held)} (limit {mebibytes(bound)}); "
            "ask for less of each item, or give fewer items or smaller ranges to one job",
        )

    # -- jobs come, end and go -----------------------------------------------------------

    def same_request(self, spec: JobSpec, owner: Identity, digest: bytes | None = None) -> Job | None:
        """Return the job of the same request_id and spec; None if there is none yet.

        Args:
            digest: of the spec, if it is known.
        """
        known = self._by_request.get((owner.uid, spec.request_id)) if spec.request_id else None
        if known is None:
            return None
        job, first = known
        if (digest or digest_of(spec)) != (first or digest_of(job.spec)):
            raise RequestIdReused(
                f'spec.request_id: "{spec.request_id}" was used for another spec; '
                "send the same spec, or a new request_id",
                field="spec.request_id",
            )
        return job

    def add(self, job: Job, digest: bytes | None = None) -> None:
        """Add an accepted job.

        Args:
            digest: of its whole spec, if the job keeps only the first items of that. Otherwise it is made
                when another request has the same id, which is rare.
        """
        self._by_id[job.id] = self._running[job.id] = job
        self._all.add(job)
        self._of_uid.setdefault(job.owner.uid, _Index()).add(job)
        weight = job.weight = _spec_weight(job.spec)
        self._unended[job.owner.payer] += weight
        self._unended_weight += weight
        job.held_bytes = live_bytes(job)
        self.live.charge(job.owner.payer, job.held_bytes)
        if job.spec.request_id:
            known = job, digest or b""
            self._by_request[job.owner.uid, job.spec.request_id] = known

    def note_ended(self, job: Job) -> None:
        """Count the job as ended from now on, and forget others beyond the limits."""
        payer, weight = job.owner.payer, job.weight
        del self._running[job.id]
        self._unended[payer] -= weight
        self._unended_weight -= weight
        if not self._unended[payer]:
            del self._unended[payer]
        before_bytes, job.held_bytes = job.held_bytes, kept_bytes(job)
        self.live.charge(payer, -before_bytes)
        self._keep(payer, job.held_bytes)
        weight = job.weight = weight + job.results_known // _PARTS_PER_JOB
        self._ended[job.id] = self._ended_of.setdefault(payer, {})[job.id] = job
        self._kept_of[payer] += weight
        self._kept_weight += weight
        self.on_freed(before_bytes - job.held_bytes)
        self._make_room(job)

    def _keep(self, payer: int, count: int) -> None:
        """Count more bytes of ended jobs of the account, or fewer if negative."""
        self.kept_memory.charge(payer, count)
        self.held.charge(payer, count)

    def _make_room(self, ended: Job) -> None:
        """Forget the oldest jobs of the account that has most, so that nobody can displace another's jobs."""
        while self._kept_weight > self.limits.kept and len(self._ended) > 1:
            fullest = max(self._kept_of, key=self._kept_of.__getitem__)
            self._forget(next(iter(self._ended_of[fullest].values())))
        memory, payer = self.kept_memory, ended.owner.payer
        while not memory.has_room(payer, 0) and self._forget_oldest(payer, ended):
            pass
        while memory.total > memory.most and self._forget_oldest(memory.fullest, ended):
            pass

    def _forget_oldest(self, payer: int, but: Job) -> bool:
        """Forget the account's oldest ended job, but not the one that has just ended, still unseen."""
        oldest = next(iter(self._ended_of.get(payer, {}).values()), but)
        if oldest is but:
            return False
        self._forget(oldest)
        return True

    def forget_ended_before(self, boot_s: float, most: int | None = None) -> float | None:
        """Forget jobs that ended before a time of CLOCK_BOOTTIME; return the end time of the oldest left.

        Args:
            most: most jobs to forget in this call; None = all.
        """
        while self._ended:
            job = next(iter(self._ended.values()))
            if job.ended_boot_s > boot_s or most == 0:
                return job.ended_boot_s
            self._forget(job)
            most = most - 1 if most is not None else None
        return None

    def _forget(self, job: Job) -> None:
        uid, payer, weight = job.owner.uid, job.owner.payer, job.weight
        del self._ended[job.id], self._ended_of[payer][job.id]
        self._kept_weight -= weight
        self._kept_of[payer] -= weight
        if not self._kept_of[payer]:
            del self._kept_of[payer], self._ended_of[payer]
        del self._by_id[job.id]
        self._all.remove(job)
        self._of_uid[uid].remove(job)
        if not self._of_uid[uid]:
            del self._of_uid[uid]
        key = (uid, job.spec.request_id)
        if self._by_request.get(key, (None,))[0] is job:
            del self._by_request[key]
        self._keep(payer, -job.held_bytes)
        self.on_freed(job.held_bytes)
        job.held_bytes = 0
        job.drop_results()

    # -- who asks for them -----------------------------------------------------------------

    def may_see(self, job: Job, who: Identity) -> bool:
        """Whether `who` owns the job or is an admin."""
        return job.owner.uid == who.uid or who.uid in self._admin_uids

    def find(self, job_id: str, request_id: str, who: Identity) -> Job:
        """Return the job of this id, or of the caller's own request_id; raises JobUnknown."""
        if job_id:
            job = self._by_id.get(job_id)
        else:
            job, _ = self._by_request.get((who.uid, request_id), (None, b""))
        if job is None or not self.may_see(job, who):
            name = f'id "{job_id[:64]}"' if job_id else f'request_id "{request_id[:64]}"'
            raise JobUnknown(f"{name}: no such job of yours; List has those that there are")
        return job

    def look(self, query: Query, who: Identity, most: int = LOOK_JOBS) -> Page:
        """Look at the next jobs that the caller may see, and return those that match the query.

        Takes no longer because of other users' jobs; looks at most at `most` jobs.
        """
        index = self._all if who.uid in self._admin_uids else self._of_uid.get(who.uid, _Index())
        jobs = index.newest(query.before_jno, most)
        found: list[Job] = []
        for i, job in enumerate(jobs, 1):
            if _matches(job, query):
                found.append(job)
            if len(found) == query.limit:
                return Page(found, job.jno, i)
        return Page(found, jobs[-1].jno if len(jobs) == most else 0, len(jobs))


def digest_of(spec: JobSpec) -> bytes:
    """Return a digest of 32 bytes that identifies a spec; the request_id is not part of it."""
    digest = Digest()
    digest.add_head(spec)
    digest.add(spec.items)
    digest.add(spec.ranges)
    return digest.value


class Digest:
    """The digest of a spec, made in pieces: 100,000 items take too long for one turn of the loop."""

    def __init__(self) -> None:
        """Start with nothing added."""
        self._hash = hashlib.blake2b(digest_size=32)

    def add_head(self, spec: JobSpec) -> None:
        """Add all but the items and ranges."""
        words = (spec.function, spec.min_chunk, spec.max_threads, spec.undo, len(spec.items))
        mappings = (spec.arg, spec.sources, spec.labels)
        self._hash.update(repr((words, [sorted(one.items()) for one in mappings])).encode())

    def add(self, pieces: Sequence[object]) -> None:
        """Add items or ranges, in order. It makes no difference how many are added in one call."""
        self._hash.update("".join(map(repr, pieces)).encode("utf-8", "surrogatepass"))

    @property
    def value(self) -> bytes:
        """Return the digest of everything that was added."""
        return self._hash.digest()


def _spec_weight(spec: JobSpec) -> int:
    """Return how many jobs a spec counts for, so that large ones do not fill the memory."""
    parts = len(spec.ranges) + len(spec.items) + spec.ranges_omitted + spec.items_omitted
    texts = sum(len(str(word)) for pair in (*spec.labels.items(), *spec.arg.items()) for word in pair)
    return 1 + parts // _PARTS_PER_JOB + texts // _TEXT_PER_JOB


def _matches(job: Job, query: Query) -> bool:
    if query.states and job.state not in query.states:
        return False
    if query.function and job.spec.function != query.function:
        return False
    return all(job.spec.labels.get(key) == value for key, value in query.labels)
