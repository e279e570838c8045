"""The list of metrics: name, kind, labels and meaning of each. Names and labels are part of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kinds of metrics, by their names in the text formats."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: without the suffixes that the text formats add (`_total`, `_bucket`).
        help: one sentence.
        labels: in the order in which samples give their values.
        unit: the name ends with it; "" = none.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its samples, as queries use them."""
        if self.kind is Kind.COUNTER:
            return (f"{self.name}_total",)
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS = (
    Metric("ktaskd_jobs_accepted", _C, "Jobs that were accepted."),
    Metric("ktaskd_jobs_ended", _C, "Jobs that have ended.", ("function", "outcome", "user")),
    Metric("ktaskd_jobs", _G, "Jobs that have not ended, queued or running.", ("state",)),
    Metric(
        "ktaskd_processed_bytes",
        _C,
        "Bytes of sources that jobs have processed.",
        ("function",),
        "bytes",
    ),
    Metric("ktaskd_cpu_seconds", _C, "CPU time that workers spent on jobs.", ("class", "user"), "seconds"),
    Metric(
        "ktaskd_waited_seconds",
        _C,
        "Time in which jobs waited, or had fewer workers, for this reason; sampled each second.",
        ("reason",),
        "seconds",
    ),
    Metric("ktaskd_job_queue_seconds", _H, "Time from acceptance to the first worker.", (), "seconds"),
    Metric("ktaskd_job_run_seconds", _H, "Time from the first worker to the end.", ("function",), "seconds"),
    Metric("ktaskd_allowance_helpers", _G, "Helpers that may run now.", ("node",)),
    Metric("ktaskd_allowance_leads", _G, "Leads that may run now."),
    Metric(
        "ktaskd_allowance_duty_ratio",
        _G,
        "Fraction of the time in which helpers may work, called share in the status.",
        (),
        "ratio",
    ),
    Metric("ktaskd_allowance_level", _G, "1 for the governor's present level, 0 for the others.", ("level",)),
    Metric("ktaskd_allowance_reason", _G, "1 for each reason why fewer helpers may run.", ("reason",)),
    Metric(
        "ktaskd_pressure_ratio",
        _G,
        "Fraction of the time in which others wait for a resource, as the governor measured it last.",
        ("resource",),
        "ratio",
    ),
    Metric("ktaskd_workers", _G, "Worker processes.", ("class", "state")),
    Metric("ktaskd_connections", _G, "Connections of clients.", ("socket",)),
    Metric("ktaskd_handles", _G, "Descriptors that clients have handed over."),
    Metric("ktaskd_process_cpu_seconds", _C, "CPU time of the daemon's own process.", (), "seconds"),
    Metric("ktaskd_process_resident_bytes", _G, "Memory of the daemon's own process.", (), "bytes"),
    Metric("ktaskd_process_start_time_seconds", _G, "Start of the daemon, since the epoch.", (), "seconds"),
    Metric("ktaskd_build_info", _G, "Always 1, with the daemon's version.", ("version",)),
)
"""In the order in which they are written."""
