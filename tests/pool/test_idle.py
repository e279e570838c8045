"""Surplus workers end, down to the warm ones, and nothing is lost.

Tests: ktaskd/pool/pool.py
"""

from __future__ import annotations

from ktaskd.model.worker import WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.link import Worker
from tests.pool.realpool import noop, pool, run


def test_workers_when_long_idle_then_they_end_down_to_the_warm_ones() -> None:
    retired: list[tuple[Worker, WorkerState]] = []

    async def story() -> None:
        def retire(worker: Worker) -> None:
            retired.append((worker, worker.state))

        async with pool(4, warm=1, idle_timeout_s=0.05, retire=retire) as (made, events):
            made.ensure(4)
            await events.until(lambda: len(events.dead) == 3)
            assert {worker for worker, _ in retired} == {worker for worker, _ in events.dead}
            # The pool called before the worker had begun to end.
            assert {state for _, state in retired} == {WorkerState.IDLE}
            (kept,) = made.workers
            assert kept.state is WorkerState.IDLE
            assert [slot.wanted for slot in made.slots].count(True) == 1
            assert sum(slot.respawns for slot in made.slots) == 0
            # No worker is due, so there is no timer.
            assert made._idle_timer is None
            made.ensure(2)
            await events.until(lambda: len(events.ready) == 5)

    run(story())


def test_worker_when_the_listener_of_its_death_wants_it_again_then_one_comes_and_not_two() -> None:
    async def story() -> None:
        async with pool(1, warm=0, idle_timeout_s=0.02) as (made, events):
            record = events.on_dead

            def on_dead(worker: Worker, death: Death) -> None:
                record(worker, death)
                made.ensure(1)

            events.on_dead = on_dead  # type: ignore[method-assign]
            made.ensure(1)
            await events.until(lambda: len(events.dead) == 3)
            events.on_dead = record  # type: ignore[method-assign]
            await events.until(lambda: len(events.ready) == 4)
            pids = [worker.pid for worker in events.ready]
            assert len(set(pids)) == 4
            assert [worker.id for worker in events.ready] == sorted({worker.id for worker in events.ready})
            assert all(death.status == 0 for _, death in events.dead)
            assert len(made._by_id) == len(list(made.workers))

    run(story())


def test_workers_when_the_time_is_0_then_they_stay() -> None:
    async def story() -> None:
        async with pool(2, warm=0) as (made, events):
            made.ensure(2)
            await events.until(lambda: len(events.ready) == 2)
            assert made._idle_timer is None

    run(story())


def test_worker_when_busy_then_it_stays_and_its_time_begins_after() -> None:
    async def story() -> None:
        async with pool(2, warm=0, idle_timeout_s=0.02) as (made, events):
            made.ensure(2)
            await events.until(lambda: len(events.ready) >= 1)
            busy = events.ready[0]
            busy.state = WorkerState.BUSY
            await events.until(lambda: len(events.dead) == 1)
            assert list(made.workers) == [busy]
            assert made._idle_timer is None
            noop(busy)
            busy.send_chunk(1, 0, 1)
            await events.until(lambda: events.done)
            busy.state = WorkerState.IDLE
            assert made._idle_timer is not None
            await events.until(lambda: len(events.dead) == 2)
            assert str(events.dead[-1][1]) == "exit status 0"
            assert not list(made.workers)

    run(story())


def test_worker_when_wanted_again_while_it_ends_then_another_comes_after_it() -> None:
    async def story() -> None:
        again = [1]

        def retire(_: Worker) -> None:
            if again:
                again.clear()
                made.ensure(1)

        async with pool(1, warm=0, idle_timeout_s=0.02, retire=retire) as (made, events):
            made.ensure(1)
            await events.until(lambda: len(events.ready) == 2)
            assert len({worker.id for worker in events.ready}) == 2
            assert [slot.respawns for slot in made.slots] == [0]
            await events.until(lambda: len(events.dead) == 2)

    run(story())


def test_workers_when_some_are_ending_then_free_slots_come_first() -> None:
    async def story() -> None:
        async with pool(2, warm=1) as (made, events):
            (first,) = made.workers
            made.slots[0].wanted, first.retired = False, True
            first.stop()
            made.ensure(1)
            assert [slot.wanted for slot in made.slots] == [False, True]
            await events.until(lambda: len(events.ready) == 2 and len(events.dead) == 1)
            assert made.slots[0].worker is None

    run(story())
