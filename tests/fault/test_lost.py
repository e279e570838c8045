"""Jobs that end after a chunk was lost or failed: nothing is forgotten, and nothing counted twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.jobs import view
from ktaskd.model.job import JobState
from ktaskd.model.worker import WorkerState
from tests.fault.armed_faults import ArmedFaults
from tests.fault.faulty_pools import faulty_pools
from tests.fault.struck_jobs import GUARD, MAKERS, StruckJob
from tests.jobs.realjobs import CPUS, RealJobs

# One worker, whose replacement does not start at once, so that the job waits with
# a chunk that was begun.
FAULTS = "worker.mid_chunk:kill host.before_fork:raise"


@pytest.mark.parametrize(
    ("maker", "state"),
    [("fill", JobState.DIRTY), ("copy", JobState.CANCELLED), ("populate", JobState.CANCELLED)],
)
def test_cancel_when_a_lost_chunk_waits_then_undone_or_named(maker: str, state: JobState) -> None:
    with faulty_pools(nodes=(CPUS[:1],), helpers=1, leads=1) as (one, armed):
        victim = MAKERS[maker](one.jobs)
        one.run(_cancelled_while_it_waits(one.jobs, armed, victim, state))


async def _cancelled_while_it_waits(
    h: RealJobs, armed: ArmedFaults, victim: StruckJob, state: JobState
) -> None:
    armed.arm_all(FAULTS)
    job = await h.submit(victim.spec, waited=False)
    await h.until(lambda: job.tally.retried)
    assert job.state is JobState.RUNNING
    assert not job.crew.busy
    h.engine.cancel(job)
    await h.ended(job)
    error = view.full_error(job)
    assert error is not None
    assert (job.state, error.reason) == (state, "CANCELLED")
    assert victim.wrong(error.dirty, succeeded=False) == ""
    # Struck in its second quantum: it had claimed no more.
    claimed = 2 * CATALOGUE["mem.fill"].quantum - GUARD
    assert sum(span.length for span in error.dirty) == (claimed if state is JobState.DIRTY else 0)
    assert bool(victim.changed()) is (state is JobState.DIRTY)
    await h.until(lambda: h.at_rest and not armed.waiting())


def test_undo_when_another_lead_is_free_then_one_of_them_has_it() -> None:
    """After every message the house checks that no job has two leads."""
    with faulty_pools(leads=2) as (one, _):
        one.run(_failed_beside_a_free_lead(one.jobs))


async def _failed_beside_a_free_lead(h: RealJobs) -> None:
    h.leads.ensure(2)
    await h.until(lambda: [worker.state for worker in h.leads.workers] == [WorkerState.IDLE] * 2)
    victim = MAKERS["bad_log"](h)
    job = await h.run(replace(victim.spec, max_threads=1))
    assert job.state is JobState.FAILED
    assert victim.wrong((), succeeded=False) == ""
