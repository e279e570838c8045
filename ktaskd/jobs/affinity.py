"""Which CPUs the leads may use, beside the helpers that are pinned to theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from ktaskd.host.scheduling.raising import bind_to_cpus
from ktaskd.jobs.job import Job
from ktaskd.model.topology import Node
from ktaskd.pool.link import Worker


def lead_cpus(allowed: frozenset[int], taken: frozenset[int], leads: int = 1) -> frozenset[int]:
    """The CPUs of a lead: those of its caller, without the taken ones while enough others are free.

    The kernel takes a CPU that only runs SCHED_IDLE work for an idle one when it
    places a normal thread, so it would put the lead right there. But leads must not share
    the free CPUs while a helper has one for itself.

    Args:
        leads: how many leads use a CPU.
    """
    free = allowed - taken
    return free if len(free) >= max(leads, 1) else allowed


def place_leads(
    job_of: Mapping[Worker, Job],
    cpus: frozenset[int],
    is_blocked: Callable[[Worker], bool] = lambda _: False,
) -> None:
    """Bind each busy lead to the CPUs that it should use now.

    The CPU of a starved helper is somebody else's, and as good as any other; that of a
    blocked one is free.

    Args:
        job_of: the busy workers, each with its job.
        cpus: those that the daemon may use.
        is_blocked: whether a worker uses no CPU.
    """
    leads = [(worker, job) for worker, job in job_of.items() if worker.is_lead and worker.pid]
    if not leads:
        return
    helpers = (worker for worker in job_of if not worker.is_lead and not worker.starved)
    taken = frozenset(worker.cpu for worker in helpers if not is_blocked(worker))
    active = sum(not is_blocked(worker) for worker, _ in leads)
    for worker, job in leads:
        wanted = lead_cpus((job.caller.cpus & cpus) or cpus, taken, active)
        if wanted != worker.cpus and bind_to_cpus(worker.pid, wanted):
            worker.cpus = wanted


def quietest_cpu(node: Node | None, busy: Iterable[Worker]) -> int:
    """The CPU of a node on which the fewest of these workers are; -1 where there is no node."""
    counts = Counter(worker.cpu for worker in busy)
    return min(sorted(node.cpus), key=counts.__getitem__, default=-1) if node is not None else -1
