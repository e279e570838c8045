"""Each chunk counts once, whoever answers, gives back or dies.

Guards: I1
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ktaskd.jobs.crew import NOBODY, Crew, HeldChunk
from ktaskd.planner.cursor import Chunk

LEAD: Any = "lead"
HELPERS: list[Any] = ["first", "second", "third"]
WORKERS = [LEAD, *HELPERS]
"""The books only compare workers, so names will do."""

some = st.data()


class Hands(RuleBasedStateMachine):
    """Gives chunks to a lead and helpers, and counts what comes of each."""

    @initialize()
    def begin(self) -> None:
        self.crew = Crew()
        for worker in WORKERS:
            self.crew.held[worker] = {}
        self.seq = 0
        self.given: set[int] = set()
        self.ended: set[int] = set()
        self.back: set[int] = set()

    def _hand(self, worker: Any, chunk: Chunk) -> HeldChunk:
        self.seq += 1
        held = HeldChunk(chunk, 0.0, worker)
        self.crew.give(worker, self.seq, held)
        return held

    def _all(self) -> list[tuple[Any, int, HeldChunk]]:
        return [(at, seq, held) for at, chunks in self.crew.held.items() for seq, held in chunks.items()]

    def _some(self, data: st.DataObject) -> tuple[Any, int, HeldChunk]:
        found: tuple[Any, int, HeldChunk] = data.draw(st.sampled_from(self._all()))
        return found

    holding = precondition(lambda self: self._all())

    @rule(data=some)
    def give(self, data: st.DataObject) -> None:
        chunk = Chunk(self.seq, self.seq + 1, 0, -1)
        self.given.add(chunk.start)
        self._hand(data.draw(st.sampled_from(WORKERS)), chunk)

    @rule(data=some)
    def ask_for_twins(self, data: st.DataObject) -> None:
        if not self.crew.to_duplicate:
            self.crew.duplicate(data.draw(st.sampled_from(HELPERS)))

    @precondition(lambda self: self.crew.to_duplicate)
    @rule()
    def run_twice(self) -> None:
        held = self.crew.take_duplicate()
        self.crew.pair(held, self._hand(LEAD, held.chunk))

    @holding
    @rule(data=some, whole=st.booleans())
    def answer(self, data: st.DataObject, whole: bool) -> None:
        worker, seq, held = self._some(data)
        assert self.crew.holding(worker, seq) is held
        assert self.crew.take(worker, seq) is held
        assert self.crew.take(worker, seq) is None
        self._settle(held, whole=whole)

    @rule(data=some)
    def die(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(WORKERS))
        lost, self.crew.held[worker] = self.crew.held[worker], {}
        for held in lost.values():
            self._settle(held, whole=False)

    def _settle(self, held: HeldChunk, *, whole: bool) -> None:
        start, twin, was_void = held.chunk.start, held.twin, held.void
        verdict = self.crew.settle(held, whole=whole)
        assert held not in self.crew.to_duplicate
        if was_void:
            assert not verdict.counts
            assert start in self.ended
        elif whole:
            assert verdict.counts
            assert start not in self.ended | self.back, "it counts twice"
            self.ended.add(start)
            assert verdict.to_recall == (twin.worker if twin else None)
        else:
            assert verdict.counts == (twin is None)
            if verdict.counts:
                self.back.add(start)

    @invariant()
    def each_chunk_is_in_hand_or_settled(self) -> None:
        hands: dict[int, list[HeldChunk]] = {}
        for _, _, held in self._all():
            hands.setdefault(held.chunk.start, []).append(held)
        for start, both in hands.items():
            live = [one for one in both if not one.void]
            assert len(both) <= 2
            assert (start in self.ended) == (not live)
            assert all(one.twin is None or one.twin.twin is one for one in both)
            assert len(live) < 2 or live[0].twin is live[1]
        assert hands.keys() | self.ended | self.back == self.given, "a chunk is nowhere"
        for one in self.crew.to_duplicate:
            assert one.twin is None
            assert not one.void
        for worker in WORKERS:
            chunks = self.crew.held[worker].values()
            assert self.crew.holds_only_void(worker) == (bool(chunks) and all(one.void for one in chunks))
        assert self.crew.busy == {worker for worker in WORKERS if self.crew.held[worker]}


Hands.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_chunk_when_in_one_hand_or_two_then_it_counts_once = Hands.TestCase


def test_crew_of_nobody_when_a_worker_joins_it_then_refused() -> None:
    worker: Any = LEAD
    with pytest.raises(AssertionError, match="no crew of its own"):
        NOBODY.helpers.add(worker)
    with pytest.raises(AssertionError, match="no crew of its own"):
        NOBODY.held[worker] = {}
    assert NOBODY.take(worker, 1) is None
    assert not NOBODY.busy


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_twins_when_one_answers_then_exactly_one_of_both_answers_counts(first: int, whole: bool) -> None:
    crew = Crew()
    pair = [HeldChunk(Chunk(0, 10, 0, 0), 0.0, worker) for worker in (HELPERS[0], LEAD)]
    crew.pair(*pair)
    one, other = pair[first], pair[1 - first]
    verdict = crew.settle(one, whole=whole)
    assert verdict.counts is whole
    assert verdict.to_recall == (other.worker if whole else None)
    assert crew.settle(other, whole=True).counts is not whole
