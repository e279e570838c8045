"""Jobs that succeed: what comes out, who did it, and in which order.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import random
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.jobs import view
from ktaskd.model.allowance import Allowance
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from tests.jobs.realjobs import CPUS, ME, MIB, Memory, RealJobs, Setting, real_jobs, run, shared_jobs

CONTENT = random.Random(1).randbytes(5 * MIB + 123)


def crc(memory: Memory, **more: object) -> JobSpec:
    return replace(JobSpec("file.crc32", sources={"data": memory.ref}), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("waited", [True, False])
def test_job_when_it_ends_then_result_progress_and_times_are_right(waited: bool) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.run(crc(h.memory(CONTENT), min_chunk=100_000), waited=waited)
            assert job.state is JobState.SUCCEEDED
            assert view.full_result(job) == {"crc32": zlib.crc32(CONTENT), "bytes": len(CONTENT)}
            progress = view.progress(job)
            assert progress.positions_done == progress.positions_total == len(CONTENT)
            assert progress.bytes_done == progress.bytes_total == len(CONTENT)
            assert progress.chunks_done == progress.chunks_total > 1
            assert (progress.running_helpers, progress.running_leads) == (0, 0)
            assert job.create_s <= job.start_s <= job.end_s
            assert view.full_error(job) is None
            assert view.waiting_reasons(job) == ()

    run(story())


def test_job_when_cut_in_any_way_then_the_same_result() -> None:
    """Guards: I1, I5"""
    with shared_jobs(nodes=(CPUS[:1], CPUS[1:2], ())) as one:
        h = one.jobs
        source = h.memory(CONTENT)

        @settings(max_examples=12, deadline=None)
        @given(
            threads=st.integers(1, 8),
            min_chunk=st.sampled_from([0, 1, 4096, MIB, 2**62]),
            cuts=st.sets(st.integers(0, len(CONTENT)), max_size=4),
            nids=st.lists(st.sampled_from([None, -1, 0, 1, 2]), min_size=6, max_size=6),
            waited=st.booleans(),
        )
        def example(
            threads: int, min_chunk: int, cuts: set[int], nids: list[int | None], waited: bool
        ) -> None:
            edges = [0, *sorted(cuts), len(CONTENT)]
            ranges = tuple(
                RangeSpec(start, end - start, nid)
                for start, end, nid in zip(edges, edges[1:], nids, strict=False)
            )
            one.run(check(threads, min_chunk, ranges, waited))

        async def check(threads: int, min_chunk: int, ranges: tuple[RangeSpec, ...], waited: bool) -> None:
            cut = JobSpec("", min_chunk=min_chunk, max_threads=threads, ranges=ranges)
            summed = await h.run(
                replace(cut, function="file.crc32", sources={"data": source.ref}), waited=waited
            )
            assert view.full_result(summed) == {"crc32": zlib.crc32(CONTENT), "bytes": len(CONTENT)}
            target = h.memory(len(CONTENT) + 9)
            roles = {"src": source.ref, "dst": target.ref}
            copied = await h.run(replace(cut, function="file.copy", sources=roles), waited=waited)
            assert copied.state is JobState.SUCCEEDED, view.full_error(copied)
            assert target.read() == CONTENT + bytes(9)
            fill = replace(cut, function="mem.fill", arg={"value": 7}, sources={"data": target.ref})
            assert (await h.run(fill, waited=waited)).state is JobState.SUCCEEDED
            assert target.read() == b"\7" * len(CONTENT) + bytes(9)

        example()


async def empties(h: RealJobs) -> list[JobSpec]:
    nothing = h.memory(0)
    some = h.memory(b"x" * 100)
    return [
        crc(nothing),
        crc(some, ranges=(RangeSpec(50, 0), RangeSpec(100, 0))),
        JobSpec("selftest.noop"),
        JobSpec("file.copy", sources={"src": nothing.ref, "dst": h.memory(0).ref}),
        JobSpec("mem.fill", sources={"data": nothing.ref}),
    ]


def test_job_when_it_has_no_positions_then_succeeds() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            for spec in await empties(h):
                for waited in (True, False):
                    job = await h.run(spec, waited=waited)
                    assert job.state is JobState.SUCCEEDED, spec
                    if spec.function == "file.crc32":
                        assert view.full_result(job) == {"crc32": 0, "bytes": 0}

    run(story())


def test_waited_job_when_one_thread_then_the_lead_alone_does_it() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.run(crc(h.memory(CONTENT), max_threads=1))
            assert view.cpu(job).helper_s == 0
            assert view.cpu(job).lead_s > 0
            assert not h.most_helpers
            assert all(h.dispatch.roster[worker].chunks == 0 for worker in h.pools[0].workers)

    run(story())


def test_detached_job_when_run_then_helpers_alone_do_it() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            job = await h.run(crc(h.memory(CONTENT)), waited=False)
            assert view.cpu(job).lead_s == 0
            assert view.cpu(job).helper_s > 0

    run(story())


def test_helpers_when_the_allowance_changes_then_no_more_than_it_at_any_time() -> None:
    """Guards: I3"""

    async def story() -> None:
        async with real_jobs() as h:
            spin = JobSpec("selftest.spin", arg={"ms": 2}, ranges=(RangeSpec(0, 60),), max_threads=4)
            job = await h.submit(spin, waited=False)
            await h.until(lambda: h.most_helpers[0] == 2)
            # Lowered while both work: RealJobs would see a third chunk being
            # handed out, so it is told the new number once one has ended.
            lower = Allowance({0: 1}, 2, 2)
            h.dispatch.roster.allowance, before = lower, h.dispatch.allowance
            h.look = lambda: h._changed.set()  # type: ignore[method-assign]
            await h.until(lambda: h.dispatch.roster.busy_helpers(0) <= 1 or job.state.ended)
            del h.look
            h.most_helpers.clear()
            assert not job.state.ended
            await h.until(lambda: job.tally.chunks_done > 20 or job.state.ended)
            assert h.most_helpers[0] == 1
            h.dispatch.roster.allowance = before
            h.dispatch.pump()
            await h.ended(job)
            assert job.state is JobState.SUCCEEDED

    run(story())


def test_job_when_its_only_thread_has_done_its_node_then_another_node_goes_on() -> None:
    async def story() -> None:
        async with real_jobs(nodes=(CPUS[:1], CPUS[1:2])) as h:
            ranges = (RangeSpec(0, 10, 0), RangeSpec(10, 10, 1), RangeSpec(20, 10))
            job = await h.run(JobSpec("selftest.noop", ranges=ranges, max_threads=1), waited=False)
            assert job.state is JobState.SUCCEEDED

    run(story())


def test_range_of_a_node_when_its_helpers_are_all_at_work_then_another_nodes_help_at_once() -> None:
    async def story() -> None:
        async with real_jobs(nodes=(CPUS[:1], CPUS[1:2])) as h:
            # Nothing else happens meanwhile: the units are long, and none has ended.
            spec = JobSpec(
                "selftest.spin", arg={"ms": 3_000_000.0}, ranges=(RangeSpec(0, 100, 1),), max_threads=4
            )
            job = await h.submit(spec, waited=False)
            await h.until(lambda: len(job.crew.helpers) == 2)
            assert {worker.nid for worker in job.crew.helpers} == {0, 1}
            assert not job.tally.chunks_done

    run(story())


def test_waited_job_when_no_helper_is_allowed_then_the_lead_does_it() -> None:
    async def story() -> None:
        async with real_jobs(helpers=0) as h:
            job = await h.run(crc(h.memory(CONTENT), max_threads=4))
            assert job.state is JobState.SUCCEEDED
            assert not h.most_helpers

    run(story())


def test_jobs_when_many_at_once_then_all_end_right() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            sources = [h.memory(CONTENT[: i * 50_000]) for i in range(8)]
            jobs = []
            for i in range(160):
                memory = sources[i % 8]
                jobs.append(await h.submit(crc(memory, min_chunk=1, max_threads=i % 5), waited=i % 3 > 0))
            await h.ended(*jobs)
            for i, job in enumerate(jobs):
                size = i % 8 * 50_000
                assert view.full_result(job) == {"crc32": zlib.crc32(CONTENT[:size]), "bytes": size}

    run(story())


def test_leads_when_all_are_taken_then_others_wait_and_say_so() -> None:
    async def story() -> None:
        async with real_jobs(helpers=0, leads_per_uid=1) as h:
            spin = JobSpec("selftest.spin", arg={"ms": 3_600_000}, ranges=(RangeSpec(0, 1),))
            first, second = await h.submit(spin), await h.submit(spin)
            await h.begun(first)
            assert [reason.code for reason in view.waiting_reasons(second)] == ["LEAD_LIMIT"]
            third = await h.submit(spin, waited=False)
            assert [reason.code for reason in view.waiting_reasons(third)] == ["WORKERS_BUSY"]
            h.engine.cancel(first)
            await h.begun(second)
            assert view.waiting_reasons(second) == ()

    run(story())


# -- items ---------------------------------------------------------------------------


@pytest.mark.parametrize("min_chunk", [0, 1, 50, 100_000])
def test_items_when_summed_then_in_order_and_versions_ascend(min_chunk: int) -> None:
    async def story() -> None:
        async with real_jobs() as h:
            sources = [h.memory(CONTENT[: 1 + i]) for i in range(40)]
            count = 700
            refs = tuple(sources[i % 40].ref for i in range(count))
            ranges = (RangeSpec(300, 400), RangeSpec(0, 300))
            spec = JobSpec("file.crc32", items=refs, ranges=ranges, min_chunk=min_chunk)
            job = await h.run(spec)
            assert job.state is JobState.SUCCEEDED, view.full_error(job)
            wanted = [{"crc32": zlib.crc32(CONTENT[: 1 + i % 40]), "bytes": 1 + i % 40} for i in range(count)]
            assert view.full_result(job) == {"items": wanted}
            assert [index for _, index, _ in job.item_results] == list(range(count))
            versions = [version for version, _, _ in job.item_results]
            assert versions == sorted(versions)
            assert versions[-1] <= job.version
            assert not h.deaths

    run(story())


def test_items_when_they_have_one_source_then_each_counts() -> None:
    async def story() -> None:
        async with real_jobs() as h:
            refs = (h.memory(b"abc").ref,) * 8000
            job = await h.run(JobSpec("file.crc32", items=refs, min_chunk=8000))
            assert view.full_result(job) == {"items": [{"crc32": zlib.crc32(b"abc"), "bytes": 3}] * 8000}
            assert not h.deaths

    run(story())


def test_items_when_they_are_too_many_for_a_result_then_only_counted() -> None:
    async def story() -> None:
        async with real_jobs(Setting()) as h:
            refs = (h.memory(b"abc").ref,) * 40_000
            job = await h.run(JobSpec("file.crc32", items=refs), who=ME)
            assert view.full_result(job) == {"items_omitted": 40_000}
            assert len(job.item_results) == 40_000

    run(story())


def test_items_when_another_job_has_the_same_source_then_it_keeps_it() -> None:
    """A worker lets go of items after each chunk, but not of what another of its jobs needs."""

    async def story() -> None:
        async with real_jobs(helpers=0, leads=1) as h:
            data = h.memory(CONTENT)
            copies = []
            for _ in range(3):
                roles = {"src": data.ref, "dst": h.memory(0).ref}
                # Two steps of each copy come before the first chunk over items.
                copies.append(await h.submit(JobSpec("file.copy", sources=roles, min_chunk=MIB), waited=True))
                copies.append(await h.submit(JobSpec("file.crc32", items=(data.ref,) * 9), waited=True))
            await h.ended(*copies)
            assert [view.full_error(job) for job in copies] == [None] * 6

    run(story())
