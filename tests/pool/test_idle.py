"""Workers that nobody needs end, down to the warm ones; nothing is lost by it.

Tests: ktaskd/pool/pool.py
"""

from __future__ import annotations

from ktaskd.model.worker import WorkerState
from ktaskd.pool.link import Death, Worker
from tests.pool.house import noop, pool, run


def test_workers_when_long_idle_then_they_end_down_to_the_warm_ones() -> None:
    retired: list[tuple[Worker, WorkerState]] = []

    async def story() -> None:
        def retire(worker: Worker) -> None:
            retired.append((worker, worker.state))

        async with pool(4, warm=1, idle_timeout_s=0.05, retire=retire) as (made, ears):
            made.ensure(4)
            await ears.until(lambda: len(ears.dead) == 3)
            assert {worker for worker, _ in retired} == {worker for worker, _ in ears.dead}
            # Told while they could still have been given something.
            assert {state for _, state in retired} == {WorkerState.IDLE}
            (kept,) = made.workers
            assert kept.state is WorkerState.IDLE
            assert [place.wanted for place in made.places].count(True) == 1
            assert sum(place.respawns for place in made.places) == 0
            # Nothing is due any more, and so nothing wakes up.
            assert made._idle_timer is None
            made.ensure(2)
            await ears.until(lambda: len(ears.ready) == 5)

    run(story())


def test_worker_when_wanted_again_by_who_is_told_that_it_ended_then_one_comes_and_not_two() -> None:
    async def story() -> None:
        async with pool(1, warm=0, idle_timeout_s=0.02) as (made, ears):
            told = ears.on_dead

            def on_dead(worker: Worker, death: Death) -> None:
                told(worker, death)
                made.ensure(1)

            ears.on_dead = on_dead  # type: ignore[method-assign]
            made.ensure(1)
            await ears.until(lambda: len(ears.dead) == 3)
            ears.on_dead = told  # type: ignore[method-assign]
            await ears.until(lambda: len(ears.ready) == 4)
            pids = [worker.pid for worker in ears.ready]
            assert len(set(pids)) == 4
            assert [worker.id for worker in ears.ready] == sorted({worker.id for worker in ears.ready})
            assert all(death.status == 0 for _, death in ears.dead)
            assert len(made._by_id) == len(list(made.workers))

    run(story())


def test_workers_when_the_time_is_0_then_they_stay() -> None:
    async def story() -> None:
        async with pool(2, warm=0) as (made, ears):
            made.ensure(2)
            await ears.until(lambda: len(ears.ready) == 2)
            assert made._idle_timer is None

    run(story())


def test_worker_when_busy_then_it_stays_and_its_time_begins_after() -> None:
    async def story() -> None:
        async with pool(2, warm=0, idle_timeout_s=0.02) as (made, ears):
            made.ensure(2)
            await ears.until(lambda: len(ears.ready) >= 1)
            busy = ears.ready[0]
            busy.state = WorkerState.BUSY
            await ears.until(lambda: len(ears.dead) == 1)
            assert list(made.workers) == [busy]
            assert made._idle_timer is None
            noop(busy)
            busy.send_chunk(1, 0, 1)
            await ears.until(lambda: ears.done)
            busy.state = WorkerState.IDLE
            assert made._idle_timer is not None
            await ears.until(lambda: len(ears.dead) == 2)
            assert str(ears.dead[-1][1]) == "exit status 0"
            assert not list(made.workers)

    run(story())


def test_worker_when_wanted_again_while_it_ends_then_another_comes_after_it() -> None:
    async def story() -> None:
        again = [1]

        def retire(_: Worker) -> None:
            if again:
                again.clear()
                made.ensure(1)

        async with pool(1, warm=0, idle_timeout_s=0.02, retire=retire) as (made, ears):
            made.ensure(1)
            await ears.until(lambda: len(ears.ready) == 2)
            assert len({worker.id for worker in ears.ready}) == 2
            assert [place.respawns for place in made.places] == [0]
            await ears.until(lambda: len(ears.dead) == 2)

    run(story())


def test_workers_when_some_are_ending_then_free_places_come_first() -> None:
    async def story() -> None:
        async with pool(2, warm=1) as (made, ears):
            (first,) = made.workers
            made.places[0].wanted, first.retired = False, True
            first.stop()
            made.ensure(1)
            assert [place.wanted for place in made.places] == [False, True]
            await ears.until(lambda: len(ears.ready) == 2 and len(ears.dead) == 1)
            assert made.places[0].worker is None

    run(story())
