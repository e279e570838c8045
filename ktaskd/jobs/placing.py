"""Which CPUs the leads may use, beside the helpers that are pinned to theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ktaskd.host.raising import bind_to_cpus
from ktaskd.jobs.job import Job
from ktaskd.model.topology import Node
from ktaskd.pool.link import Worker


def lead_cpus(allowed: frozenset[int], taken: frozenset[int]) -> frozenset[int]:
    """The CPUs of a lead: those of its caller, without the taken ones while others are free.

    The kernel takes a CPU that only runs SCHED_IDLE work for an idle one when it
    places a normal thread, so it would put the lead right there.
    """
    return (allowed - taken) or allowed


def place_leads(job_of: Mapping[Worker, Job], cpus: frozenset[int]) -> None:
    """Bind each busy lead to the CPUs that it should use now.

    The CPU of a starved helper is somebody else's, and as good as any other.

    Args:
        job_of: the busy workers, each with its job.
        cpus: those that the daemon may use.
    """
    leads = [(worker, job) for worker, job in job_of.items() if worker.is_lead and worker.pid]
    if not leads:
        return
    taken = frozenset(worker.cpu for worker in job_of if not worker.is_lead and not worker.starved)
    for worker, job in leads:
        wanted = lead_cpus((job.caller.cpus & cpus) or cpus, taken)
        if wanted != worker.cpus and bind_to_cpus(worker.pid, wanted):
            worker.cpus = wanted


def quietest_cpu(node: Node | None, busy: Iterable[Worker]) -> int:
    """The CPU of a node on which the fewest of these workers are; -1 where there is no node."""
    counts = Counter(worker.cpu for worker in busy)
    return min(sorted(node.cpus), key=counts.__getitem__, default=-1) if node is not None else -1
