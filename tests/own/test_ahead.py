"""Calls of `map` that a worker was sent ahead are made once, and wait for nobody's long call."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import ktask
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.own.board import Board
from ktask.own.bursts import Peer
from ktask.own.futures import Call
from ktask.own.tokens import Tokens
from ktask.v1 import parcels
from ktask.v1.parcels import Parcel

from tests.own import things


@dataclass
class FakeBurst:
    began: bool = False


@dataclass(eq=False)
class FakeWorker:
    """A worker and its connection, whose messages arrive only when they are delivered."""

    is_helper: bool = False
    calls: deque[Call] = field(default_factory=deque)
    burst: FakeBurst = field(default_factory=FakeBurst)
    tokens: Tokens = field(default_factory=Tokens)
    takes_ahead: bool = False
    is_quick: bool = True
    pipe: deque[Call] = field(default_factory=deque)
    sent: deque[tuple[str, Call | None]] = field(default_factory=lambda: deque([("READY", None)]))
    making: Call | None = None
    made: list[Call] = field(default_factory=list)

    def has_function_of(self, _: Call) -> bool:
        return True

    def finish(self) -> None:
        """End a call; go on with one that was sent ahead, or ask for one."""
        if self.making is None:
            return
        self.made.append(self.making)
        self.sent.append(("RESULT", self.making))
        try:
            os.eventfd_read(self.tokens.fd)
        except BlockingIOError:
            self.making = None
            self.sent.append(("READY", None))
        else:
            self.making = self.pipe.popleft()


class Program:
    """The client's side, as the server of calls does it."""

    def __init__(self, count: int) -> None:
        self.board = Board(count)
        self.workers = [FakeWorker() for _ in range(count)]
        self.answered: list[Call] = []
        self.lost: list[Call] = []

    def add(self, *, ours: bool) -> None:
        self.board.add(Call(Future[Any](), Parcel(b""), is_ours=ours))
        self._assign()

    def deliver(self, worker: FakeWorker) -> None:
        if not worker.sent:
            return
        kind, call = worker.sent.popleft()
        peer = cast(Peer, worker)
        if kind == "READY":
            self.board.take_back(peer)
            assert not worker.calls
            self.board.ready.append(peer)
            self._assign()
        elif call is not None:
            assert self.board.answered(peer, call.number) is call
            self.answered.append(call)
            if worker.calls:
                self._send_ahead(worker)

    def die(self, worker: FakeWorker) -> None:
        """End a worker after all that it has sent was delivered; another one takes its place."""
        while worker.sent:
            self.deliver(worker)
        peer = cast(Peer, worker)
        self.board.retire(peer)
        self.board.take_back(peer)
        lost = self.board.lost(peer)
        assert lost == ([worker.making] if worker.making else [])
        self.lost += lost
        worker.making = None
        self.workers[self.workers.index(worker)] = FakeWorker(made=worker.made)
        self._assign()

    def _assign(self) -> None:
        for peer, call in self.board.assign():
            worker = cast(FakeWorker, peer)
            worker.pipe.clear()
            assert worker.making is None
            worker.making = call
            self._send_ahead(worker)

    def _send_ahead(self, worker: FakeWorker) -> None:
        calls: Sequence[Call] = self.board.send_ahead(cast(Peer, worker))
        worker.pipe += calls
        worker.tokens.put(len(calls))


steps = st.lists(
    st.tuples(
        st.sampled_from(["ours", "ours", "ours", "theirs", "finish", "finish", "deliver", "deliver", "die"]),
        st.integers(0, 2),
    ),
    max_size=150,
)


@settings(deadline=None)
@given(steps)
def test_calls_ahead_when_anything_crosses_then_each_is_made_once(taken: list[tuple[str, int]]) -> None:
    program, count = Program(3), 0
    for step, number in taken:
        worker = program.workers[number]
        if step in ("ours", "theirs"):
            program.add(ours=step == "ours")
            count += 1
        elif step == "finish":
            worker.finish()
        elif step == "deliver":
            program.deliver(worker)
        else:
            program.die(worker)
        busy = [one for one in program.workers if one.calls]
        assert program.board.in_hand == len(busy) <= 3
    for _ in range(3 * count + 10):
        for worker in program.workers:
            worker.finish()
            while worker.sent:
                program.deliver(worker)
    made = sorted(call.number for call in program.answered + program.lost)
    assert made == list(range(1, count + 1))
    assert len(program.board.ready) == 3


def test_call_ahead_when_another_worker_is_free_then_it_does_not_wait() -> None:
    program = Program(2)
    first, second = program.workers
    program.deliver(first)
    for _ in range(5):
        program.add(ours=True)
    first.finish()
    while first.sent:
        program.deliver(first)
    assert len(first.calls) == 4
    program.deliver(second)
    assert second.making is not None
    assert len(first.calls) == 1


def test_map_when_calls_are_short_then_each_is_made_once(executor: ktask.Executor, tmp_path: Path) -> None:
    list(executor.map(things.note_a_call, [str(tmp_path)] * 3000))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == 3000


def test_map_when_its_function_is_large_and_others_run_then_it_arrives_whole(daemon: Any) -> None:
    large = bytes(parcels.LARGE_BYTES)
    with ktask.Executor(1, target=daemon.place) as executor:
        before = executor.map(things.same, range(2000))
        found = executor.map(lambda i: len(large) + i, range(20))
        assert list(before) == list(range(2000))
        assert list(found) == [len(large) + i for i in range(20)]


def test_map_when_a_worker_dies_among_short_calls_then_one_of_them_fails(executor: ktask.Executor) -> None:
    futures = executor._submit_all(things.dies_at_200, [(i,) for i in range(400)])
    errors = {i: future.exception() for i, future in enumerate(futures)}
    assert [i for i, error in errors.items() if error is not None] == [200]
    assert isinstance(errors[200], ktask.WorkerLost)
