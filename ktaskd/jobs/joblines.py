"""The two log lines of a job: one when its first worker begins, one when it has ended.

Texts that come from the client are escaped, so that no client can forge a line or a field.
"""

from __future__ import annotations

import logging

from ktaskd.host.logline import escape
from ktaskd.jobs.job import Job
from ktaskd.jobs.tally import Tally
from ktaskd.jobs.volume import volume

log = logging.getLogger(__name__)

TEXT_MAX = 200
"""Characters of a command or an error in a line."""


def log_started(job: Job) -> None:
    """Log that the first worker begins."""
    owner, trace = job.owner, job.spec.trace
    log.info(
        "job_started job=%s uid=%d pid=%d nid=%d function=%s command=\"%s\" bytes=%d items=%d "
        "threads=%d queue_s=%.3f trace_id=%s span_id=%s trace_state=\"%s\"",
        job.id, owner.uid, owner.pid, owner.nid, job.spec.function, escape(owner.command.text, TEXT_MAX),
        volume(job), len(job.items), job.threads, max(job.start_s - job.create_s, 0.0),
        trace.trace_id, trace.span_id, escape(trace.state, TEXT_MAX),
    )  # fmt: skip


def log_ended(job: Job, processed: int, workers: int) -> None:
    """Log how a job has ended.

    Args:
        processed: bytes of its sources.
        workers: number of workers that had a part of it and are still alive.
    """
    owner, error, trace = job.owner, job.error, job.spec.trace
    tally = job.tally if job.start_s else Tally()  # a job that never began has none
    log.info(
        "job_ended job=%s uid=%d pid=%d nid=%d function=%s command=\"%s\" state=%s reason=%s seconds=%.3f "
        "queue_s=%.3f bytes=%d cpu_s=%.3f lead_cpu_s=%.3f workers=%d trace_id=%s span_id=%s error=\"%s\"",
        job.id, owner.uid, owner.pid, owner.nid, job.spec.function, escape(owner.command.text, TEXT_MAX),
        job.state.value, error.reason if error else "", job.end_s - job.create_s,
        max((job.start_s or job.end_s) - job.create_s, 0.0),
        processed, tally.cpu_s, tally.lead_ns / 1e9, workers, trace.trace_id, trace.span_id,
        escape(error.message, TEXT_MAX) if error else "",
    )  # fmt: skip
