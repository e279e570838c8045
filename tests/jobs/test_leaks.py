"""After many jobs of every kind the daemon and its workers are as before.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ktaskd.jobs.registry import JobLimits, Query
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from tests.jobs.realjobs import ME, MIB, RealJobs, real_jobs, run
from tests.jobs.test_failure import SIZE, undo_log


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def footprint(h: RealJobs) -> dict[int, int]:
    """Descriptors of every process, by pid."""
    pids = [worker.pid for pool in h.pools for worker in pool.workers]
    return {pid: descriptors(pid) for pid in [os.getpid(), *pids, *(pool.host_pid for pool in h.pools)]}


def specs_of(h: RealJobs) -> list[JobSpec]:
    data, log = h.memory(bytes(MIB)), h.memory(SIZE)
    return [
        JobSpec("file.crc32", sources={"data": data.ref}),
        JobSpec("file.copy", sources={"src": data.ref, "dst": h.memory(0).ref}),
        JobSpec("mem.populate", sources={"data": data.ref}),
        JobSpec("file.crc32", items=(data.ref, log.ref) * 50),
        undo_log(log, fail_at=SIZE - 1),
        JobSpec("selftest.noop", ranges=(RangeSpec(0, 1000),)),
    ]


async def one_of_each(h: RealJobs) -> list[JobState]:
    jobs = []
    for waited in (True, False):
        for spec in specs_of(h):
            jobs.append(await h.submit(spec, waited=waited))
    spin = JobSpec("selftest.spin", arg={"ms": 60_000}, ranges=(RangeSpec(0, 2),))
    jobs.append(await h.submit(spin))
    h.engine.cancel(jobs[-1])
    await h.ended(*jobs)
    return [job.state for job in jobs]


def test_daemon_when_many_jobs_ended_then_no_descriptor_or_process_more() -> None:
    """Guards: I7"""

    async def story() -> None:
        async with real_jobs(leads=1, limits=JobLimits(kept=5)) as h:
            before, fds = footprint(h), len(h._fds)
            for _ in range(3):
                states = await one_of_each(h)
                assert states[-1] is JobState.CANCELLED
                assert states.count(JobState.SUCCEEDED) == 10
            h.handles.drop_connection(1)
            for fd in h._fds[fds:]:
                os.close(fd)
            del h._fds[fds:]
            workers = [worker for pool in h.pools for worker in pool.workers]
            assert all(not worker.sids and not worker.jnos for worker in workers)
            await h.until(lambda: footprint(h) == before)
            assert not h.deaths
            assert h.registry.unended == 0
            assert 1 <= h.registry.kept <= 5
            assert not h.dispatch.job_of
            assert not h.dispatch.demand._wanting

    run(story())


def test_engine_when_jobs_are_old_then_forgotten_without_being_asked() -> None:
    async def story() -> None:
        async with real_jobs(limits=JobLimits(keep_s=0.2)) as h:
            noop = JobSpec("selftest.noop", ranges=(RangeSpec(0, 1),))
            first = await h.run(replace(noop, request_id="r"))
            assert await h.submit(replace(noop, request_id="r"), waited=False) is first
            assert list(h.registry.look(Query(), ME).jobs) == [first]
            await h.until(lambda: not h.registry.kept)
            again = await h.run(replace(noop, request_id="r"))
            assert again is not first
            await h.until(lambda: not list(h.registry))

    run(story())
