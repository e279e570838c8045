"""A daemon's figures, made up, with a value of each metric."""

from __future__ import annotations

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from ktaskd.metrics.figures import Look
from ktaskd.metrics.ledger import Ended, Ledger, Usage
from ktaskd.model.allowance import Allowance, Level, Reason
from ktaskd.model.worker import WorkerClass, WorkerState

LOOK = Look(
    accepted=5,
    queued=2,
    running=[Usage("file.sha256", 0, 100, 10**9, 2 * 10**9)],
    allowance=Allowance({0: 1, 1: 2}, 4, 4, (Reason("CPU_PRESSURE", "busy"),), Level.FEWER, 0.5),
    pressure={"cpu": 0.25, "io": 0.0, "memory": 0.0, "memory_full": 0.0},
    workers={(WorkerClass.HELPER, WorkerState.BUSY): 3},
    connections={"grpc": 7, "handoff": 1},
    handles=9,
    cpu_s=1.5,
    resident_bytes=4096,
    start_s=1e9,
    version="1.2",
)


def ledger() -> Ledger:
    made = Ledger()
    made.note_ended(Ended(Usage("file.sha256", 1000, 50, 0, 10**9), "succeeded", 0.01, 2.0))
    made.note_ended(Ended(Usage("file.copy", 1001), "cancelled", 3.0))
    made.note_waited("LEAD_LIMIT", 1.5)
    return made


def parsed(text: bytes) -> dict[str, Family]:
    """The families by name, as the reference parser of OpenMetrics reads them; it raises at any fault."""
    return {family.name: family for family in parse(text.decode())}  # type: ignore[no-untyped-call]


def sample(families: dict[str, Family], name: str, **labels: str) -> float:
    (value,) = (
        one.value
        for family in families.values()
        for one in family.samples
        if one.name == name and one.labels == labels
    )
    return float(value)
