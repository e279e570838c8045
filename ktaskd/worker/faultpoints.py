"""Fault points of a worker, where tests make it misbehave."""

from __future__ import annotations

from ktaskd.host import faults
from ktaskd.worker.jobs import Known


class FaultPoints:
    """Fault points of the function of the job at hand."""

    def __init__(self, known: Known) -> None:
        """Belong to no function yet."""
        self._known = known
        self._function = ""

    def begin(self, jno: int, point: str) -> None:
        """Pass `point`; from here on all fault points are those of this job's function."""
        job = self._known.jobs.get(jno)
        self._function = job.declaration.name if job is not None else ""
        self.hit(point)

    def hit(self, point: str) -> bool:
        """Let a test make this worker misbehave here; True = cut the frame in half."""
        return faults.hit(point, self._function)
