"""Hanging is told from the worker's own CPU time alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ktaskd.jobs.hang import HangWatch
from ktaskd.pool.link import Worker


@dataclass(eq=False)
class FakeWorker:
    """The parts of a worker that the watch looks at."""

    pid: int
    seq: int = 1
    beats: int = 0
    cpu_s: float = 0.0

    @property
    def position(self) -> tuple[int, int]:
        return self.seq, 0


def watch(*workers: FakeWorker, limit_s: float = 2.0) -> tuple[HangWatch, list[Worker]]:
    by_pid = {worker.pid: worker for worker in workers}
    return HangWatch(limit_s, lambda pid: by_pid[pid].cpu_s), [cast(Worker, worker) for worker in workers]


def test_worker_when_it_uses_the_limit_without_a_quantum_then_it_hangs() -> None:
    one = FakeWorker(1)
    hang_watch, busy = watch(one)
    assert hang_watch.look(busy) == []
    one.cpu_s = 1.9
    assert hang_watch.look(busy) == []
    one.cpu_s = 2.0
    assert hang_watch.look(busy) == busy


def test_worker_when_it_works_a_quantum_or_begins_a_chunk_then_it_counts_anew() -> None:
    one = FakeWorker(1)
    hang_watch, busy = watch(one)
    for change in ("beats", "seq"):
        hang_watch.look(busy)
        one.cpu_s += 1.9
        setattr(one, change, getattr(one, change) + 1)
        assert hang_watch.look(busy) == []
        one.cpu_s += 1.9
        assert hang_watch.look(busy) == []


def test_worker_when_starved_or_asleep_then_it_never_hangs() -> None:
    one = FakeWorker(1)
    hang_watch, busy = watch(one)
    assert not any(hang_watch.look(busy) for _ in range(1000))


def test_worker_when_it_was_free_meanwhile_then_it_counts_anew() -> None:
    one = FakeWorker(1)
    hang_watch, busy = watch(one)
    hang_watch.look(busy)
    hang_watch.look([])
    one.cpu_s = 5.0
    assert hang_watch.look(busy) == []


def test_limit_when_0_then_nobody_hangs() -> None:
    one = FakeWorker(1)
    hang_watch, busy = watch(one, limit_s=0.0)
    hang_watch.look(busy)
    one.cpu_s = 1e9
    assert hang_watch.look(busy) == []
