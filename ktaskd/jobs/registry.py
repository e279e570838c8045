"""Which jobs the daemon knows, who may see them, and for how long. No clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ktaskd.jobs.job import Job
from ktaskd.model.errors import JobUnknown, QueueFull, QuotaFull, RequestIdReused
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState

_PARTS_PER_JOB = 64
_TEXT_PER_JOB = 8192
"""So many ranges and items, or characters, count as one job more."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds on jobs; the configuration's section "jobs".

    Args:
        queued: jobs that have not ended, of all uids. A large one, of many
            ranges or items or of long texts, counts as several.
        queued_per_uid: the same of one uid.
        kept: ended jobs that are remembered, of all uids, counted the same way.
            Beyond that the oldest go, of the uid that has most of them.
        keep_s: seconds that an ended job is remembered.
    """

    queued: int = 20_000
    queued_per_uid: int = 10_000
    kept: int = 2_000
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Query:
    """What `List` asks for; empty fields ask for all."""

    states: frozenset[JobState] = frozenset()
    function: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    before_jno: int = 0
    limit: int = field(default=100)


class Registry:
    """Every accepted job until it is forgotten, by id and by request_id."""

    def __init__(self, limits: JobLimits, admin_uids: frozenset[int]) -> None:
        """`admin_uids` see the jobs of everybody."""
        self.limits = limits
        self._admin_uids = admin_uids
        self._by_id: dict[str, Job] = {}
        self._by_request: dict[tuple[int, str], Job] = {}
        self._unended: Counter[int] = Counter()
        self._unended_weight = 0
        self._ended: dict[str, Job] = {}
        self._ended_of: dict[int, dict[str, Job]] = {}
        self._weights: dict[str, int] = {}
        self._kept_of: Counter[int] = Counter()
        self._kept_weight = 0

    def __iter__(self) -> Iterator[Job]:
        """All jobs, oldest first."""
        return iter(tuple(self._by_id.values()))

    @property
    def running(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        return [job for job in self._by_id.values() if not job.state.ended]

    @property
    def unended(self) -> int:
        """Jobs that have not ended."""
        return len(self._by_id) - len(self._ended)

    @property
    def kept(self) -> int:
        """Jobs that have ended and are remembered."""
        return len(self._ended)

    def check_room(self, uid: int) -> None:
        """Refuse one job more than `uid`, or all, may have."""
        if self._unended[uid] >= self.limits.queued_per_uid:
            raise QuotaFull(
                f"jobs of uid {uid}: got {self._unended[uid]} that have not ended, "
                f"wanted less than {self.limits.queued_per_uid}"
            )
        if self._unended_weight >= self.limits.queued:
            raise QueueFull(
                f"jobs of all users: got {self._unended_weight} that have not ended, "
                f"wanted less than {self.limits.queued}"
            )

    def same_request(self, spec: JobSpec, owner: Identity) -> Job | None:
        """The job of the same request_id and spec, None if there is none yet."""
        job = self._by_request.get((owner.uid, spec.request_id)) if spec.request_id else None
        if job is not None and job.spec != spec:
            raise RequestIdReused(
                f'spec.request_id: "{spec.request_id}" was used for another spec, '
                "wanted the same spec or a new request_id",
                field="spec.request_id",
            )
        return job

    def add(self, job: Job) -> None:
        """Know an accepted job."""
        self._by_id[job.id] = job
        weight = self._weights[job.id] = _spec_weight(job.spec)
        self._unended[job.owner.uid] += weight
        self._unended_weight += weight
        if job.spec.request_id:
            self._by_request[job.owner.uid, job.spec.request_id] = job

    def note_ended(self, job: Job) -> None:
        """The job counts as ended from now on; beyond the bound others are forgotten."""
        uid, weight = job.owner.uid, self._weights[job.id]
        self._unended[uid] -= weight
        self._unended_weight -= weight
        if not self._unended[uid]:
            del self._unended[uid]
        weight = self._weights[job.id] = weight + len(job.item_results) // _PARTS_PER_JOB
        self._ended[job.id] = self._ended_of.setdefault(uid, {})[job.id] = job
        self._kept_of[uid] += weight
        self._kept_weight += weight
        while self._kept_weight > self.limits.kept and len(self._ended) > 1:
            # Of whoever has most, so that nobody can have another's jobs forgotten.
            fullest = max(self._kept_of, key=self._kept_of.__getitem__)
            self._forget(next(iter(self._ended_of[fullest].values())))

    def forget_ended_before(self, boot_s: float) -> float | None:
        """Forget jobs that ended before a time of CLOCK_BOOTTIME; the end time of the oldest left."""
        for job in tuple(self._ended.values()):
            if job.ended_boot_s > boot_s:
                return job.ended_boot_s
            self._forget(job)
        return None

    def _forget(self, job: Job) -> None:
        uid, weight = job.owner.uid, self._weights.pop(job.id)
        del self._ended[job.id], self._ended_of[uid][job.id]
        self._kept_weight -= weight
        self._kept_of[uid] -= weight
        if not self._kept_of[uid]:
            del self._kept_of[uid], self._ended_of[uid]
        del self._by_id[job.id]
        key = (uid, job.spec.request_id)
        if self._by_request.get(key) is job:
            del self._by_request[key]

    def may_see(self, job: Job, who: Identity) -> bool:
        """Whether `who` owns the job or is an admin."""
        return job.owner.uid == who.uid or who.uid in self._admin_uids

    def find(self, job_id: str, request_id: str, who: Identity) -> Job:
        """The job of this id, or of the caller's own request_id."""
        job = self._by_id.get(job_id) if job_id else self._by_request.get((who.uid, request_id))
        if job is None or not self.may_see(job, who):
            name = f'id "{job_id[:64]}"' if job_id else f'request_id "{request_id[:64]}"'
            raise JobUnknown(f"{name}: no such job of yours, wanted one of List")
        return job

    def page(self, query: Query, who: Identity) -> Sequence[Job]:
        """Jobs that the caller may see and asked for, newest first."""
        found: list[Job] = []
        for job in reversed(self._by_id.values()):
            if query.before_jno and job.jno >= query.before_jno:
                continue
            if self.may_see(job, who) and _matches(job, query):
                found.append(job)
                if len(found) == query.limit:
                    break
        return found


def _spec_weight(spec: JobSpec) -> int:
    """How many jobs one counts for, so that large ones do not fill the memory."""
    parts = len(spec.ranges) + len(spec.items)
    texts = sum(len(str(word)) for pair in (*spec.labels.items(), *spec.arg.items()) for word in pair)
    return 1 + parts // _PARTS_PER_JOB + texts // _TEXT_PER_JOB


def _matches(job: Job, query: Query) -> bool:
    if query.states and job.state not in query.states:
        return False
    if query.function and job.spec.function != query.function:
        return False
    return all(job.spec.labels.get(key) == value for key, value in query.labels)
