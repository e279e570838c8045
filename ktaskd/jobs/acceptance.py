"""Turns a checked request into a job, and adds the job to the registry."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Callable

from ktaskd.jobs.accepted import Accepted, Sources
from ktaskd.jobs.job import Job
from ktaskd.jobs.registry import Registry, digest_of
from ktaskd.jobs.steps import Prepare
from ktaskd.jobs.weight import live_bytes_of
from ktaskd.model.allowance import Allowance
from ktaskd.model.checked import CheckedJob
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobId, JobSpec, abridged
from ktaskd.planner.plan import Plan

log = logging.getLogger(__name__)


class Acceptance:
    """Gives jobs their numbers.

    Args:
        allowance: returns the governor's allowance as it is now; all jobs share this one function.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        registry: Registry,
        counters: Counter[str],
        allowance: Callable[[], Allowance | None],
        wall: Callable[[], float],
    ) -> None:
        """Start with no job."""
        self._registry, self._counters = registry, counters
        self._allowance, self._wall = allowance, wall
        self._jnos = itertools.count(1)

    def accept(
        self,
        spec: JobSpec,
        checked: CheckedJob,
        owner: Identity,
        sources: Sources,
        plan: Plan,
        digest: bytes = b"",
    ) -> Job:
        """Accept a checked job; the references of its sources become the job's.

        Args:
            digest: of the spec, if it has more items or ranges than the job keeps; b"" = not made yet.
        Raises:
            QuotaFull, QueueFull: the job is not accepted, and the references stay the caller's.
        """
        whole, spec = spec, abridged(spec)
        if whole.request_id and not digest and (spec.items_omitted or spec.ranges_omitted):
            digest = digest_of(whole)
        weight = live_bytes_of(spec, len(sources.items), len(sources.owned), len(checked.ranges))
        self._registry.check_room(owner, weight)
        accepted = Accepted(JobId(secrets.token_hex(16)), next(self._jnos), self._wall(), self._allowance)
        job = Job(accepted, spec, checked, owner, sources, plan)
        self._registry.add(job, digest)
        self._counters["jobs_accepted"] += 1
        log.debug(
            "job_accepted job=%s uid=%d function=%s positions=%d threads=%d",
            job.id, owner.uid, spec.function, plan.total, plan.threads,
        )  # fmt: skip
        if checked.declaration.lifecycle:
            job.set_step(Prepare())
        return job
