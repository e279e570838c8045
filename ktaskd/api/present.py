"""Adds the jobs of a watcher and the use of the CPUs to the status."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from ktask.v1 import control_pb2 as pb
from ktask.v1 import jobs_pb2

from ktaskd.api.convert import job_out
from ktaskd.api.state import Daemon
from ktaskd.governor.governor import boot_clock
from ktaskd.host.pressure.cpuuse import OwnProcess
from ktaskd.jobs.job import Job
from ktaskd.jobs.registry import Registry
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobState
from ktaskd.model.worker import WorkerClass

JOBS_MAX = 200
"""Most jobs of one message."""

ENDED_S = 10.0
"""Jobs that have ended are sent for this long."""

JOBS_BYTES = 256 * 1024
"""Jobs after the first of a message are left out beyond this size."""

_BREATH = 8
"""Jobs that are converted before other calls proceed; one takes about 0.1 ms."""


async def present_out(daemon: Daemon, who: Identity, status: pb.Status, most: int) -> pb.WatchStatusResponse:
    """Return a message with the status, the jobs that `who` may see, and the use of the CPUs."""
    response = pb.WatchStatusResponse(status=status)
    now_s = asyncio.get_running_loop().time()
    for use in daemon.cpu_use.read(now_s, lambda: list(_own(daemon))):
        response.cpus.add(cpu=use.cpu, helpers=use.helpers, leads=use.leads, others=use.others)
    registry = daemon.engine.registry
    jobs, response.jobs_omitted = present_jobs(registry, who, min(most, JOBS_MAX), boot_clock() - ENDED_S)
    room = JOBS_BYTES
    for i, job in enumerate(jobs, 1):
        message = _shortened(job_out(job, with_items=False))
        room -= message.ByteSize()
        if room < 0 and response.jobs:
            response.jobs_omitted += sum(not left.state.ended for left in jobs[i - 1 :])
            break
        response.jobs.append(message)
        if i % _BREATH == 0:
            await asyncio.sleep(0)
    return response


def present_jobs(registry: Registry, who: Identity, most: int, since_boot_s: float) -> tuple[list[Job], int]:
    """Return the jobs of the caller that have not ended or did so recently, and how many are left out.

    Takes 0.1 us for each unended job of any user. Jobs that have begun come before queued ones, and
    both before ended ones.

    Args:
        most: most jobs to return; only unended ones count as left out.
        since_boot_s: jobs that ended earlier, by CLOCK_BOOTTIME, are not returned.
    """
    begun: list[Job] = []
    queued: list[Job] = []
    for job in registry.running:
        if registry.may_see(job, who):
            (queued if job.state is JobState.QUEUED else begun).append(job)
    found = [*begun, *queued]
    for job in registry.ended:
        if job.ended_boot_s < since_boot_s or len(found) >= most:
            break
        if registry.may_see(job, who):
            found.append(job)
    return found[:most], max(len(begun) + len(queued) - most, 0)


def _shortened(job: jobs_pb2.Job) -> jobs_pb2.Job:
    job.ClearField("result")
    job.ClearField("warnings")
    return job


def _own(daemon: Daemon) -> Iterator[OwnProcess]:
    """The workers of all pools."""
    roster = daemon.engine.dispatch.roster
    for pool in daemon.pools:
        is_lead = pool.spec.worker_class is WorkerClass.LEAD
        for slot in pool.slots:
            worker = slot.worker
            if worker is not None and worker.pid > 0:
                record = roster.find(worker)
                yield OwnProcess(
                    worker.pid, is_lead, record.cpus if record is not None else worker.applied.cpus
                )
