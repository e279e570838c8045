"""Counters of a job: its cost so far, and the measures that kept it going."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """The counters of one job.

    Args:
        recalled: chunks that workers gave back.
        retried: chunks that were run again after their worker had died in them.
        duplicated: chunks that the lead ran as well while a starved helper held them.
        raised: times that a starved helper was raised.
        slices_lost: workers that died in slices of an open-ended job since a slice last ended well.
        lead_ns, helper_ns: CPU time.
        steps_ns: the part of it that steps for the whole job took.
    """

    chunks_done: int = 0
    recalled: int = 0
    retried: int = 0
    duplicated: int = 0
    raised: int = 0
    slices_lost: int = 0
    lead_ns: int = 0
    helper_ns: int = 0
    steps_ns: int = 0

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all workers."""
        return (self.lead_ns + self.helper_ns) / 1e9
