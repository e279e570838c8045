"""The public view of a job: progress, reasons for waiting, cost and outcome. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.positions import cut
from ktaskd.jobs.sizes import next_size
from ktaskd.jobs.steps import Json
from ktaskd.model.allowance import Level, Reason
from ktaskd.model.job import CpuUsage, JobError, JobState, Progress


def progress(job: Job) -> Progress:
    """Return the progress of a job, including positions inside running chunks."""
    if job.last_progress is not None:
        return job.last_progress
    total, unit = job.plan.total, job.checked.position_bytes
    held = job.crew.held
    at_work = [worker for worker in job.crew.busy if not worker.resting]
    # Reading the records of a job that has not begun would make them.
    begun = job.state is not JobState.QUEUED
    done = min(job.completed + sum(_inside(job, worker) for worker in held), total) if begun else 0
    chunks = job.tally.chunks_done if begun else 0
    leads = sum(worker.is_lead for worker in at_work)
    return Progress(
        positions_done=done,
        positions_total=total,
        bytes_done=done * unit,
        bytes_total=total * unit,
        chunks_done=chunks,
        chunks_total=chunks + sum(map(len, held.values())) + -(-job.left // max(next_size(job), 1)),
        running_helpers=len(at_work) - leads,
        running_leads=leads,
    )


def _inside(job: Job, worker: Worker) -> int:
    seq, position = worker.position
    held = job.crew.holding(worker, seq)
    if held is None or held.void or (held.twin is not None and worker.is_lead):
        return 0
    return min(max(position - held.chunk.start, 0), held.chunk.end - held.chunk.start)


def cpu(job: Job) -> CpuUsage:
    """Return the CPU time of ended chunks and steps, and the counts of measures that kept the job going."""
    if job.state is JobState.QUEUED:
        return CpuUsage()
    tally = job.tally
    return CpuUsage(
        tally.lead_ns / 1e9,
        tally.helper_ns / 1e9,
        tally.recalled,
        tally.retried,
        tally.duplicated,
        tally.raised,
    )


def waiting_reasons(job: Job) -> tuple[Reason, ...]:
    """Return why a job does not run, or runs without its lead."""
    if job.state.ended:
        return ()
    allowance = job.allowance()
    governed = allowance is not None and allowance.level is not Level.RUN and job.plan.wanted > job.waited
    reasons = (
        *_lead_reasons(job),
        *(allowance.reasons if allowance is not None and governed else ()),
        *_rate_reasons(job),
    )
    if job.state is JobState.QUEUED and not reasons:
        return (Reason("WORKERS_BUSY", "all workers that may run it are taken", since_s=job.create_s),)
    return reasons


def own_reasons(job: Job) -> tuple[Reason, ...]:
    """Return those of the reasons that are not the governor's, and none for taken workers."""
    return (*_lead_reasons(job), *_rate_reasons(job))


def _lead_reasons(job: Job) -> list[Reason]:
    reasons: list[Reason] = []
    if job.lead_limited_s or _waits_for_lead(job):
        reasons.append(
            Reason(
                "LEAD_LIMIT",
                "all leads that its owner may have are taken",
                since_s=job.lead_limited_s or job.create_s,
            )
        )
    if job.paced_until_s:
        words = "its lead goes at the pace of its caller's CPU quota"
        value = f"{job.caller.cpu_quota:g} CPUs"
        reasons.append(Reason("CLIENT_LIMIT", words, value, since_s=job.paced_since_s))
    return reasons


def _rate_reasons(job: Job) -> list[Reason]:
    reasons: list[Reason] = []
    if job.saturation is not None and (rates := job.saturation.against_more) is not None:
        unit = job.checked.position_bytes or 1
        words = f"{rates.workers} workers make it no faster than {rates.workers - 1}"
        value = f"{rates.with_all * unit / 1e6:.0f} MB/s with {rates.workers}"
        limit = f"{rates.with_fewer * unit / 1e6:.0f} MB/s with {rates.workers - 1}"
        reasons.append(Reason("SATURATED", words, value, limit, since_s=job.start_s))
    if job.full_disk:
        most = job.disks[job.full_disk]
        words = f"disk {job.full_disk} has all the workers that it may have"
        reasons.append(Reason("DISK_LIMIT", words, f"{most} at work", f"{most}", since_s=job.create_s))
    return reasons


def _waits_for_lead(job: Job) -> bool:
    alone = job.waited and job.threads == 1
    return job.state is JobState.QUEUED and alone and job.step is None


def full_result(job: Job) -> Json | None:
    """Return Job.result: the combined result, or the items' results if they fit into a message."""
    if not job.counts_items or job.state is not JobState.SUCCEEDED or job.item_results.dropped:
        return job.result
    if not job.item_results.fits:
        return {"items_omitted": len(job.item_results)}
    results = [result for _, _, result in job.item_results]
    if job.checked.declaration.whole_files and not job.spec.items:
        return results[0]  # the only file, which was given by its role
    return {"items": results}


def full_error(job: Job) -> JobError | None:
    """Return the error with the spans that were undone and are dirty, or the first of them."""
    if job.error is None:
        return None
    positions = job.positions
    (undone, more_undone), (dirty, more_dirty) = cut(positions.undone), cut(positions.dirty)
    return replace(
        job.error,
        undone=tuple(undone),
        dirty=tuple(dirty),
        undone_omitted=more_undone.omitted + positions.cut_undone.omitted,
        dirty_omitted=more_dirty.omitted + positions.cut_dirty.omitted,
        undone_hull=positions.cut_undone.hull or more_undone.hull,
        dirty_hull=positions.cut_dirty.hull or more_dirty.hull,
    )
