"""Reads from the daemon's parts what the metrics show."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ktaskd.governor.governor import Governor
from ktaskd.host.processes.process import resident_bytes
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.job import Job
from ktaskd.metrics.figures import Look
from ktaskd.metrics.ledger import Ended, Usage
from ktaskd.model.job import JobState
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.pool import Pool

SOCKETS = {"connections": "grpc", "handoff_connections": "handoff"}
"""The doors' counters of connections, with their names in the label."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the daemon that are read.

    Args:
        counts: returns the counters of the doors, by name.
        start_s: start of the daemon, in seconds since the epoch.
    """

    engine: Engine
    governor: Governor
    pools: Iterable[Pool]
    counts: Callable[[], Mapping[str, int]]
    start_s: float
    version: str


def look(parts: Parts) -> Look:
    """Read everything now. Takes a few milliseconds at most, with thousands of jobs queued."""
    engine, counts = parts.engine, parts.counts()
    running = [job for job in engine.registry.running if job.state is not JobState.QUEUED]
    return Look(
        accepted=engine.counters["jobs_accepted"],
        queued=engine.registry.unended - len(running),
        running=[_usage(job, job.completed * job.checked.position_bytes) for job in running],
        allowance=engine.dispatch.allowance,
        pressure=parts.governor.pressure(),
        workers=_workers(parts.pools),
        connections={name: counts[key] for key, name in SOCKETS.items()},
        handles=counts["handles"],
        cpu_s=time.process_time(),
        resident_bytes=resident_bytes(),
        start_s=parts.start_s,
        version=parts.version,
    )


def ended(job: Job, volume: int) -> Ended:
    """Return what counts of a job that has ended.

    Args:
        volume: bytes that it processed.
    """
    begun = job.start_s > 0
    usage = _usage(job, volume) if begun else Usage(job.spec.function, job.owner.payer)
    run_s = job.end_s - job.start_s if begun else None
    return Ended(usage, job.state.value, (job.start_s if begun else job.end_s) - job.create_s, run_s)


def _usage(job: Job, volume: int) -> Usage:
    return Usage(job.spec.function, job.owner.payer, volume, job.tally.lead_ns, job.tally.helper_ns)


def _workers(pools: Iterable[Pool]) -> Mapping[tuple[WorkerClass, WorkerState], int]:
    counts: Counter[tuple[WorkerClass, WorkerState]] = Counter()
    for pool in pools:
        for slot in pool.slots:
            if slot.worker is not None:
                counts[slot.worker.worker_class, slot.worker.state] += 1
            elif slot.wanted:
                counts[pool.spec.worker_class, WorkerState.BACKOFF] += 1
    return counts
