"""A lease that fails after reports: only what was not reported is undone, and reported as failed.

Tests: ktaskd/worker/chunks.py
Guards: I2
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Body, Context, Control, Json
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.selftest import UndoLog
from ktaskd.model.limits import LEASE_REPORT_S, PART_BYTES_MAX
from ktaskd.worker import chunks, control, frames
from ktaskd.worker.frames import SLOT_BYTES, SLOT_CLAIM, SLOT_END, SLOT_POSITION, Done, Lease, LeaseDone, Note
from ktaskd.worker.sources import Source
from tests.functions.inprocess import context_of
from tests.support.sources import facts_of
from tests.worker.scheduled import Wire, chunks_of

SIZE = 12
ARGUMENTS = {"fail_at": 7, "delay_ms": 0.0, "record": 1}
DONE, UNDONE = 1, 1 + 16


class Lessee:
    """A worker without a process, with a lease of a function that adds 1 to each byte."""

    def __init__(self, memory: int, body: Body | None = None) -> None:
        os.ftruncate(memory, SIZE)
        self.words = memoryview(bytearray(SLOT_BYTES)).cast("Q")
        self.wire = Wire()
        self.source = Source(os.dup(memory), facts_of(memory))
        declaration = replace(CATALOGUE["selftest.undo_log"], quantum=1)
        context = context_of((0, SIZE), arg={**ARGUMENTS}, data=self.source)
        body = body or find("selftest.undo_log")
        self.chunks = chunks_of(self.words, self.wire, declaration, body, context)

    def work(
        self, start: int = 0, end: int = SIZE, *, slice_ms: int = 0, sole: bool = False
    ) -> list[Done | LeaseDone | Note]:
        self.words[SLOT_CLAIM], self.words[SLOT_END] = start, end
        self.chunks.process_lease(Lease(1, 1, start, end, slice_ms=slice_ms, sole=sole))
        return self.wire.answers

    def content(self) -> list[int]:
        return list(os.pread(self.source.fd, SIZE, 0))


@pytest.fixture
def lessee(memory: int) -> Iterator[Lessee]:
    lessee = Lessee(memory)
    yield lessee
    lessee.source.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let each look at the clock be so much later than the last one."""
    now, pace = [100.0], [0.0]

    def monotonic() -> float:
        now[0] += pace[0]
        return now[0]

    clocks = SimpleNamespace(monotonic=monotonic, thread_time_ns=time.thread_time_ns)
    for module in (control, chunks):
        monkeypatch.setattr(module, "time", clocks)
    return lambda step_s: pace.__setitem__(0, step_s)


def test_lease_when_it_fails_before_a_report_then_all_of_it_is_undone(lessee: Lessee) -> None:
    (failed,) = lessee.work(2)
    assert isinstance(failed, Note)
    assert failed.kind == frames.FAILED
    assert (failed.body["reached"], failed.body["dirty"], failed.body["errno"]) == (7, [], 5)
    assert lessee.content() == [0] * 2 + [UNDONE] * 5 + [0] * 5
    # The page still shows how far the lease got, not how far its undo got.
    assert lessee.words[SLOT_POSITION] == 7


@pytest.mark.parametrize("step_s", [0.1, 0.2, 0.5, 2.0])
def test_lease_when_it_fails_after_reports_then_only_the_rest_is_undone(
    lessee: Lessee, clock: Callable[[float], None], step_s: float
) -> None:
    clock(step_s)
    *parts, failed = lessee.work(0)
    assert parts
    assert isinstance(failed, Note)
    assert failed.kind == frames.FAILED
    reported = [part.reached for part in parts if isinstance(part, LeaseDone)]
    assert len(reported) == len(parts)
    last = reported[-1]
    assert lessee.content() == [DONE] * last + [UNDONE] * (7 - last) + [0] * 5
    assert failed.body["reached"] == 7


def test_lease_when_half_a_second_is_over_then_reported_and_not_before(
    lessee: Lessee, clock: Callable[[float], None]
) -> None:
    clock(0.0)
    assert not any(isinstance(answer, LeaseDone) for answer in lessee.work(0, 6))
    clock(LEASE_REPORT_S)
    lessee.wire.frames.clear()
    *parts, done = lessee.work(0, 6)
    assert [part.reached for part in parts if isinstance(part, LeaseDone)] == [1, 2, 3, 4, 5]
    assert isinstance(done, Done)
    assert done.reached == 6


def test_lease_when_its_slice_is_over_then_something_is_done_and_the_rest_given_back(
    lessee: Lessee, clock: Callable[[float], None]
) -> None:
    """Otherwise a lease that begins late would go to and fro without end."""
    clock(10.0)
    (done,) = lessee.work(2, 7, slice_ms=100)
    assert isinstance(done, Done)
    assert done.reached == 3


class Wordy(UndoLog):
    """The same, with a result that no frame can hold."""

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        reached, _ = super().run(context, start, end, control)
        return reached, {"words": "x" * (PART_BYTES_MAX + 1)}


@pytest.mark.parametrize("sole", [False, True])
def test_lease_when_its_result_is_too_large_then_all_of_it_is_undone(memory: int, sole: bool) -> None:
    lessee = Lessee(memory, Wordy())
    with closing(lessee.source):
        (failed,) = lessee.work(0, 6, sole=sole)
        assert isinstance(failed, Note)
        assert (failed.kind, failed.body["reached"], failed.body["dirty"]) == (frames.FAILED, 6, [])
        assert lessee.content() == [UNDONE] * 6 + [0] * 6
