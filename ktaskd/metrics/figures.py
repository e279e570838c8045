"""Turns the ledger and one look at the daemon into the values of all metrics. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ktaskd.metrics.bounded import OTHER
from ktaskd.metrics.histogram import Histogram
from ktaskd.metrics.ledger import Ledger, Usage, User
from ktaskd.model.allowance import Allowance, Level
from ktaskd.model.worker import WorkerClass, WorkerState

Value = float | Histogram
Samples = Sequence[tuple[tuple[str, ...], Value]]
"""Values of one metric, each with the values of its labels."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of the daemon at one moment.

    Args:
        queued: jobs that wait for their first worker.
        running: each job that has begun and not ended.
        pressure: fraction of the time, by resource; only what was measured.
        workers: number by class and state.
        connections: number by socket.
        cpu_s: CPU seconds of the daemon's own process.
        start_s: seconds since the epoch.
    """

    accepted: int
    queued: int
    running: Sequence[Usage]
    allowance: Allowance
    pressure: Mapping[str, float]
    workers: Mapping[tuple[WorkerClass, WorkerState], int]
    connections: Mapping[str, int]
    handles: int
    cpu_s: float
    resident_bytes: int
    start_s: float
    version: str = field(default="")


def values(ledger: Ledger, look: Look, name_of: Callable[[int], str]) -> Mapping[str, Samples]:
    """Return the samples of each metric, by its name in `catalogue.METRICS`.

    Args:
        name_of: returns the name of a uid.
    """
    return dict((*_jobs(ledger, look, name_of), *_governor(look), *_daemon(look)))


def _jobs(ledger: Ledger, look: Look, name_of: Callable[[int], str]) -> Iterator[tuple[str, Samples]]:
    def named(user: User) -> str:
        return OTHER if user is None else name_of(user)

    volume, cpu_ns = ledger.with_running(look.running)
    ended = [((function, how, named(user)), count) for (function, how, user), count in ledger.ended.items()]
    yield "ktaskd_jobs_accepted", [((), look.accepted)]
    yield "ktaskd_jobs_ended", _summed(ended)
    yield "ktaskd_jobs", [(("queued",), look.queued), (("running",), len(look.running))]
    yield "ktaskd_processed_bytes", [((function,), count) for function, count in volume.items()]
    yield (
        "ktaskd_cpu_seconds",
        _summed([((kind.value, named(user)), spent / 1e9) for (kind, user), spent in cpu_ns.items()]),
    )
    yield "ktaskd_waited_seconds", [((reason,), seconds) for reason, seconds in ledger.waited_s.items()]
    yield "ktaskd_job_queue_seconds", [((), ledger.queue)]
    yield "ktaskd_job_run_seconds", [((function,), one) for function, one in ledger.run.items()]


def _governor(look: Look) -> Iterator[tuple[str, Samples]]:
    allowance = look.allowance
    reasons = dict.fromkeys(reason.code for reason in allowance.reasons)
    yield "ktaskd_allowance_helpers", [((str(nid),), count) for nid, count in allowance.helpers.items()]
    yield "ktaskd_allowance_leads", [((), allowance.leads)]
    yield "ktaskd_allowance_duty_ratio", [((), allowance.duty)]
    yield (
        "ktaskd_allowance_level",
        [((level.name.lower(),), float(level is allowance.level)) for level in Level],
    )
    yield "ktaskd_allowance_reason", [((code,), 1.0) for code in reasons]
    yield "ktaskd_pressure_ratio", [((resource,), part) for resource, part in look.pressure.items()]


def _daemon(look: Look) -> Iterator[tuple[str, Samples]]:
    yield (
        "ktaskd_workers",
        [
            ((kind.value, state.value), look.workers.get((kind, state), 0))
            for kind in WorkerClass
            for state in WorkerState
        ],
    )
    yield "ktaskd_connections", [((name,), count) for name, count in look.connections.items()]
    yield "ktaskd_handles", [((), look.handles)]
    yield "ktaskd_process_cpu_seconds", [((), look.cpu_s)]
    yield "ktaskd_process_resident_bytes", [((), look.resident_bytes)]
    yield "ktaskd_process_start_time_seconds", [((), look.start_s)]
    yield "ktaskd_build_info", [((look.version,), 1.0)]


def _summed(samples: Sequence[tuple[tuple[str, ...], float]]) -> Samples:
    """Add up samples of the same labels: two uids may have one name, and a user may be called "other"."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        sums[labels] = sums.get(labels, 0.0) + value
    return list(sums.items())
