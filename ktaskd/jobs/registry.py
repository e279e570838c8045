"""Which jobs the daemon knows, who may see them, and for how long. No clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ktaskd.jobs.job import Job
from ktaskd.model.errors import JobUnknown, QueueFull, QuotaFull, RequestIdReused
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bounds on jobs; the configuration's section "jobs".

    Args:
        queued: jobs that have not ended, of all uids.
        queued_per_uid: the same of one uid.
        kept: ended jobs that are remembered, of all uids; the oldest go first.
            A job of many ranges or items counts as several.
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
        self._ended: dict[str, Job] = {}
        self._kept_weight = 0

    def __iter__(self) -> Iterator[Job]:
        """All jobs, oldest first."""
        return iter(tuple(self._by_id.values()))

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
        if self.unended >= self.limits.queued:
            raise QueueFull(
                f"jobs of all users: got {self.unended} that have not ended, "
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
        self._unended[job.owner.uid] += 1
        if job.spec.request_id:
            self._by_request[job.owner.uid, job.spec.request_id] = job

    def note_ended(self, job: Job) -> None:
        """The job counts as ended from now on; the oldest beyond the bound go."""
        uid = job.owner.uid
        self._unended[uid] -= 1
        if not self._unended[uid]:
            del self._unended[uid]
        self._ended[job.id] = job
        self._kept_weight += _weight(job)
        while self._kept_weight > self.limits.kept and len(self._ended) > 1:
            self._forget(next(iter(self._ended.values())))

    def forget_ended_before(self, end_s: float) -> float | None:
        """Forget jobs that ended before a time; the end time of the oldest left."""
        for job in tuple(self._ended.values()):
            if job.end_s > end_s:
                return job.end_s
            self._forget(job)
        return None

    def _forget(self, job: Job) -> None:
        del self._ended[job.id]
        self._kept_weight -= _weight(job)
        del self._by_id[job.id]
        key = (job.owner.uid, job.spec.request_id)
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


def _weight(job: Job) -> int:
    """How many jobs a kept one counts for, so that large ones do not fill the memory."""
    return 1 + (len(job.spec.ranges) + len(job.spec.items) + len(job.item_results)) // 64


def _matches(job: Job, query: Query) -> bool:
    if query.states and job.state not in query.states:
        return False
    if query.function and job.spec.function != query.function:
        return False
    return all(job.spec.labels.get(key) == value for key, value in query.labels)
