"""The guests: workers that each serve one job inside the memory cgroup of its caller.

A job that needs a guest has one at a time, of the usual class: a lead if a client waits, otherwise
a helper. The job waits in the queues and the guest counts against the allowance like any other, but
the guest is started for this job and ends with it.
"""

from __future__ import annotations

import os
import signal

from ktaskd.jobs.job import Job
from ktaskd.jobs.ports import Admit, Worker
from ktaskd.model.job import JobError
from ktaskd.model.limits import ATTEMPTS_MAX
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.worker.life import EXIT_GROUP


class Guests:
    """The guest of each job that has one."""

    def __init__(self, admit: Admit) -> None:
        """Start without guests."""
        self._admit = admit
        self._job_of: dict[Worker, Job] = {}

    def engage(self, job: Job, worker_class: WorkerClass, nid: int, cpu: int) -> Worker | None:
        """Return the job's guest of this class, which may still be starting; None = none is available now."""
        guest = job.guest.worker
        if guest is not None and guest.worker_class is worker_class and guest.state is WorkerState.IDLE:
            return guest
        self.dismiss(job)
        assert job.guest.limit is not None
        guest = self._admit(job.guest.limit.group, worker_class, nid=nid, cpu=cpu)
        if guest is not None:
            job.guest.worker = guest
            self._job_of[guest] = job
        else:
            self._free_a_place()
        return guest

    def _free_a_place(self) -> None:
        """End a guest whose job may not continue now: otherwise each job could wait for the other."""
        for guest, job in self._job_of.items():
            if guest.state is WorkerState.IDLE and job.guest.worker is guest:
                self.dismiss(job)
                return

    def dismiss(self, job: Job) -> None:
        """Let the job's guest, which holds nothing, end."""
        if job.guest.worker is not None:
            job.guest.worker.stop()
            job.guest.worker = None

    def forget(self, guest: Worker) -> None:
        """Drop a guest that is dead or was given up."""
        job = self._job_of.pop(guest, None)
        if job is not None and job.guest.worker is guest:
            job.guest.worker = None


def recall_helper(job: Job) -> None:
    """Recall the chunks of a helper guest when the job may have a lead, which will do them."""
    guest = job.guest.worker
    if job.has_lead and guest is not None and not guest.is_lead and guest in job.crew.helpers:
        guest.recall()


def note_death(job: Job, death: Death) -> JobError | None:
    """Count the death of a job's guest; return the error if the job may have no other."""
    job.guest.deaths += 1
    assert job.guest.limit is not None
    if death.status is not None and os.waitstatus_to_exitcode(death.status) == EXIT_GROUP:
        words = f"worker could not enter {job.guest.limit.group}, the memory cgroup of its caller"
        return JobError("MEMORY_GROUP_CLOSED", f"{words}: it is gone, or closed to us")
    words = killed_words(job, death)
    if words or job.guest.deaths >= ATTEMPTS_MAX:
        return JobError("WORKER_LOST", f"worker {death}{words}", signal=death.signal)
    return None


def killed_words(job: Job, death: Death) -> str:
    """Return why a guest's chunk is not tried again; "" = it is.

    If the group is full, the kernel kills the guest first, and would kill the next one as well:
    the memory that was allocated so far stays until the undo.
    """
    memory = job.guest.limit
    if memory is None or not job.in_guest or death.signal != signal.SIGKILL or death.why:
        return ""
    return (
        f"; it ran in the memory cgroup of its caller, where {memory.limiting} "
        f"has a limit of {memory.limit_bytes} bytes"
    )
