"""The dispatch's queues, as flags of a job."""

from __future__ import annotations

from enum import Flag


class Queues(Flag):
    """One flag for each queue.

    A job that needs a guest (a worker in its caller's memory cgroup) is in the queues for guests.
    """

    NONE = 0
    LEADS = 1
    HELPERS = 2
    STEPS = 4
    GUEST_LEADS = 8
    GUEST_HELPERS = 16


_CHUNKS_AND_STEPS = {
    (lead, helper, step): Queues(lead * 1 + helper * 2 + step * 4)
    for lead in (False, True)
    for helper in (False, True)
    for step in (False, True)
}


def queues(*, lead: bool, helper: bool, step: bool) -> Queues:
    """Return the flags of a job that needs no guest. One dict look-up, since it is called for each chunk."""
    return _CHUNKS_AND_STEPS[lead, helper, step]


def guest_queues(*, lead: bool, helper: bool) -> Queues:
    """Return the flags of a job that needs a guest."""
    return (Queues.GUEST_LEADS if lead else Queues.NONE) | (Queues.GUEST_HELPERS if helper else Queues.NONE)
