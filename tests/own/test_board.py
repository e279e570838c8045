"""Each waiting call goes to one ready worker, in order; leads come before helpers."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from ktask.own.board import Board
from ktask.own.bursts import Peer
from ktask.own.futures import Call
from ktask.own.tokens import Tokens
from ktask.v1.parcels import Parcel

MAX_WORKERS = 3


@dataclass
class FakeBurst:
    began: bool = False


@dataclass(eq=False)
class FakePeer:
    """A worker as the board sees it."""

    is_helper: bool
    calls: deque[Call] = field(default_factory=deque)
    burst: FakeBurst = field(default_factory=FakeBurst)
    tokens: Tokens = field(default_factory=Tokens)
    takes_ahead: bool = False
    is_quick: bool = True

    def has_function_of(self, _: Call) -> bool:
        return True


def a_call() -> Call:
    return Call(Future[Any](), Parcel(b""))


def ready(board: Board, *workers: FakePeer) -> None:
    board.ready += cast("list[Peer]", workers)


@given(st.lists(st.sampled_from(["add", "cancel", "lead", "helper", "answer", "leave"]), max_size=60))
def test_calls_when_anything_happens_then_each_goes_to_one_worker_in_order(steps: list[str]) -> None:
    board, assigned, working = Board(MAX_WORKERS), list[Call](), list[Peer]()
    for step in steps:
        if step == "add":
            board.add(a_call())
        elif step == "cancel" and board.queue:
            board.queue[0].future.cancel()
        elif step in ("lead", "helper"):
            ready(board, FakePeer(step == "helper"))
        elif step == "answer" and working:
            worker = working.pop(0)
            assert board.answered(worker, worker.calls[0].number) is not None
            board.ready.append(worker)
        elif step == "leave" and board.ready:
            board.retire(board.ready[0])
        for worker, call in board.assign():
            assert worker.calls == deque([call])
            assert worker not in board.ready
            assert worker.burst.began
            assigned.append(call)
            working.append(worker)
        assert board.in_hand == len(working) <= MAX_WORKERS
        assert not (board.queue and board.ready and board.in_hand < MAX_WORKERS)
    numbers = [call.number for call in assigned]
    assert numbers == sorted(set(numbers))
    assert not any(call.future.cancelled() for call in assigned)


def test_assign_when_leads_and_helpers_are_ready_then_the_last_lead_first() -> None:
    board = Board(MAX_WORKERS)
    first, last, helper = FakePeer(False), FakePeer(False), FakePeer(True)
    ready(board, first, last, helper)
    for _ in range(3):
        board.add(a_call())
    assert [worker for worker, _ in board.assign()] == cast("list[Peer]", [last, first, helper])


def test_take_queue_when_calls_wait_then_they_are_queued_no_more() -> None:
    board = Board(MAX_WORKERS)
    calls = [a_call(), a_call()]
    for call in calls:
        board.add(call)
    assert board.take_queue() == calls
    assert not board.queue
