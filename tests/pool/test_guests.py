"""Workers in a memory cgroup that is not ours: they are in it before they are ready, or never are."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ktaskd.host.cgroups.memgroup import read_memory_group
from ktaskd.host.root import HostRoot
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.guests import GUESTS_MAX, GuestPool
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import PoolSpec
from ktaskd.worker.life import EXIT_GROUP
from ktaskd.worker.setup import GUEST_OOM_SCORE
from tests.pool.realpool import CPUS, WorkerEvents, noop, run
from tests.support.cgroups import cgroup, own_group

pytestmark = pytest.mark.other_uid


@asynccontextmanager
async def guests(uid: int = -1) -> AsyncIterator[tuple[GuestPool, WorkerEvents]]:
    events, numbers = WorkerEvents(), itertools.count(1)
    made = GuestPool(
        PoolSpec("guests", WorkerClass.LEAD, -1, CPUS, 1, 0, uid, uid), events, lambda: next(numbers)
    )
    made.start()
    try:
        yield made, events
    finally:
        await made.close(10.0)


def test_guest_when_ready_then_in_the_group_and_the_host_is_not() -> None:
    async def story() -> None:
        async with guests(65534) as (made, events):
            assert made.host_pid == 0, "no guest is wanted yet"
            with cgroup(own_group("memory")) as group:
                worker = made.admit(str(group), WorkerClass.LEAD)
                assert worker is not None
                await events.until(lambda: events.ready)
                assert read_memory_group(HostRoot(), worker.pid) == str(group)
                assert read_memory_group(HostRoot(), made.host_pid) == str(own_group("memory"))
                assert worker.applied.uid == 65534
                assert worker.applied.oom_score_adj == GUEST_OOM_SCORE
                assert worker.applied.policy == "normal"
                noop(worker)
                worker.send_chunk(1, 0, 1)
                await events.until(lambda: events.done)
                worker.stop()
                await events.until(lambda: events.dead)
                assert not list(made.workers), "it is not started again"

    run(story())


def test_guest_when_a_helper_then_lowest_and_on_its_cpu() -> None:
    async def story() -> None:
        async with guests() as (made, events):
            with cgroup(own_group("memory")) as group:
                worker = made.admit(str(group), WorkerClass.HELPER, nid=0, cpu=CPUS[-1])
                assert worker is not None
                await events.until(lambda: events.ready)
                assert (worker.applied.policy, worker.applied.nice) == ("idle", 19)
                assert worker.applied.cpus == {CPUS[-1]} == {worker.cpu}
                assert (worker.nid, worker.is_lead) == (0, False)
                worker.stop()
                await events.until(lambda: events.dead)

    run(story())


def test_guest_when_its_group_is_gone_then_it_ends_and_is_never_ready() -> None:
    async def story() -> None:
        async with guests() as (made, events):
            worker = made.admit("/sys/fs/cgroup/memory/no-such-group", WorkerClass.LEAD)
            assert worker is not None
            await events.until(lambda: events.dead)
            assert os.WEXITSTATUS(events.dead[0][1].status or 0) == EXIT_GROUP
            assert not events.ready
            assert not list(made.workers)

    run(story())


def test_guest_when_the_directory_is_no_cgroup_then_never_ready(tmp_path: Path) -> None:
    async def story() -> None:
        async with guests() as (made, events):
            made.admit(str(tmp_path), WorkerClass.LEAD)
            await events.until(lambda: events.dead)
            assert os.WEXITSTATUS(events.dead[0][1].status or 0) == EXIT_GROUP
            assert not events.ready

    run(story())


def test_guest_when_not_wanted_any_more_while_it_starts_then_it_ends() -> None:
    async def story() -> None:
        async with guests() as (made, events):
            with cgroup(own_group("memory")) as group:
                worker = made.admit(str(group), WorkerClass.LEAD)
                assert worker is not None
                worker.stop()
                await events.until(lambda: events.dead)
                assert not events.ready

    run(story())


def test_guests_when_the_host_is_killed_then_dead_and_the_next_one_starts() -> None:
    async def story() -> None:
        async with guests() as (made, events):
            with cgroup(own_group("memory")) as group:
                made.admit(str(group), WorkerClass.LEAD)
                await events.until(lambda: events.ready)
                os.kill(made.host_pid, 9)
                await events.until(lambda: events.dead)
                made.admit(str(group), WorkerClass.LEAD)
                await events.until(lambda: len(events.ready) == 2)
                assert events.ready[1].state is WorkerState.IDLE
                events.ready[1].stop()
                await events.until(lambda: len(events.dead) == 2)

    run(story())


def test_guests_when_as_many_as_may_be_then_no_more() -> None:
    async def story() -> None:
        async with guests() as (made, events):
            found = [made.admit("/nowhere", WorkerClass.LEAD) for _ in range(GUESTS_MAX + 1)]
            assert found[-1] is None
            assert all(found[:-1])
            await events.until(lambda: len(events.dead) == GUESTS_MAX)
            assert made.admit("/nowhere", WorkerClass.LEAD) is not None
            await events.until(lambda: len(events.dead) == GUESTS_MAX + 1)

    run(story())


def test_guests_when_a_death_is_reported_then_its_slot_is_free_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with guests() as (made, events):
            for _ in range(GUESTS_MAX):
                made.admit("/nowhere", WorkerClass.LEAD)
            found: list[Worker | None] = []
            heard = events.on_dead

            def on_dead(worker: Worker, death: Death) -> None:
                heard(worker, death)
                if not found:
                    found.append(made.admit("/nowhere", WorkerClass.LEAD))

            monkeypatch.setattr(events, "on_dead", on_dead)
            await events.until(lambda: len(events.dead) == GUESTS_MAX + (found != [None]))
            assert found[0] is not None

    run(story())
