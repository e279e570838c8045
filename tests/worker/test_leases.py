"""No position of a lease is worked on twice and none is forgotten, however its two sides race.

Tests: ktaskd/worker/control.py, ktaskd/worker/chunks.py, ktaskd/pool/instructed.py
Guards: I1
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.body import Context, Control, Json
from ktaskd.host.memory import barrier
from ktaskd.worker import control
from ktaskd.worker.frames import SLOT_RECALL
from tests.worker.scheduled import ALIGN, END, LONGEST, Counted, Scheduled


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The last of these is called between the daemon's write of an end and its read of the claim."""
    steps: list[Callable[[], None]] = [lambda: None]
    monkeypatch.setattr(barrier, "order_all", lambda: steps[-1]())
    return steps


@pytest.mark.parametrize("cut", range(0, END, 1))
def test_lease_when_shortened_at_any_moment_then_each_position_has_one_worker(
    between: list[Callable[[], None]], cut: int
) -> None:
    """Every order of the two sides' accesses, for each place of the cut."""
    orders = 0
    for before in count():
        for meanwhile in count():
            worker = Scheduled()
            try:
                worker.step(before)
                if worker.is_over:
                    break
                between.append(partial(worker.step, meanwhile))
                worker.shorten(cut)
                ended = worker.is_over
            finally:
                worker.finish()
            worker.check()
            orders += 1
            if ended:
                break
        if not meanwhile and before:
            break
    assert orders > 5 * min(cut, 10)


actions = st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, END))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions, max_size=6), st.integers(1, LONGEST), st.integers(0, 60), st.booleans())
def test_lease_when_shortened_many_times_and_recalled_then_each_position_has_one_worker(
    between: list[Callable[[], None]], cuts: list[tuple[int, int, int]], step: int, recall: int, eager: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if eager:
            patch.setattr(control, "LEASE_REPORT_S", 0.0)
        worker = Scheduled(Counted(step))
        try:
            for before, meanwhile, cut in cuts:
                worker.step(before)
                between.append(partial(worker.step, meanwhile))
                worker.shorten(cut)
            worker.step(recall)
            if recall < 30:
                worker.words[SLOT_RECALL] = 1
        finally:
            worker.finish()
    worker.check()


class Looking(Counted):
    """Looks far ahead for the begin of a record, as a search for long lines does."""

    LAST = 2

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        if control.quantum(start):
            return start, {"n": 0}
        if start <= self.LAST:
            self.worked.append(start)
        control.quantum(start)
        return end, {"n": int(start <= self.LAST)}


@pytest.mark.parametrize("cut", range(ALIGN, END))
def test_lease_when_a_body_looks_beyond_its_claim_then_it_ends_where_others_begin(
    between: list[Callable[[], None]], cut: int
) -> None:
    for before in range(12):
        for meanwhile in range(6):
            worker = Scheduled(Looking())
            try:
                worker.step(before)
                between.append(partial(worker.step, meanwhile))
                worker.shorten(cut)
            finally:
                worker.finish()
            assert worker.wire.answers[-1].reached <= worker.held_end  # type: ignore[union-attr]
