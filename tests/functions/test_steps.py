"""No body works further beyond a reported position than its quantum, so what lies behind may be given away.

Tests: ktaskd/functions/body.py, ktaskd/functions/quanta.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions import bodies
from ktaskd.functions.body import UNBOUNDED, Context, Json
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.quanta import pass_over
from tests.functions.cases import CASES, SELFTESTS, WHOLE_CALLS, Case, fresh, outcome
from tests.functions.inprocess import Recorder, prepare, take_turns

Parts = dict[int, Json | None]
Give = Callable[[int, int], None]

Cuts = list[tuple[int, float]]
"""After how many reports the end moves, and to which part of what is left."""


class Lease:
    """Takes the daemon's place: the end of the chunk moves while the body runs.

    Args:
        give: gets [cut, end) as soon as it is taken away.
    """

    def __init__(self, case: Case, span: tuple[int, int], quantum: int, cuts: Cuts, give: Give) -> None:
        start, end = span
        self._boundary = case.boundary
        self._first_end = self.end = end
        self._quantum = quantum
        self._reported = start
        self._cuts = list(cuts)
        self._reports = 0
        self._give = give

    def quantum(self, position: int) -> bool:
        self.check(position)
        self._reported = position
        self._reports += 1
        if self._cuts and self._reports > self._cuts[0][0]:
            self._cut(self._cuts.pop(0)[1])
        return self.end < self._first_end and position + self._quantum > self.end

    def check(self, position: int) -> None:
        assert self._reported <= position <= self._reported + self._quantum

    def _cut(self, part: float) -> None:
        claim = min(self._reported + self._quantum, self.end)
        cut = claim + int((self.end - claim) * part)
        cut -= cut % self._boundary
        if cut < claim:
            cut += self._boundary
        if cut < self.end:
            self.end, end = cut, self.end
            self._give(cut, end)

    def rest(self, wanted: int) -> bool:
        return False

    def prior(self, start: int, end: int, holes: Sequence[tuple[int, int]]) -> None:
        assert self._reported <= start <= end <= min(self._reported + self._quantum, self.end)


def run(case: Case, context: Context, start: int, end: int, cuts: Cuts, parts: Parts) -> None:
    """Run [start, end) to its end; what is taken away runs on another body at that moment."""
    body = fresh(case.name)
    while start < end:
        lease = Lease(
            case,
            (start, end),
            body.quantum_of(context),
            cuts,
            lambda cut, after: run(case, context, cut, after, [], parts),
        )
        reached, part = body.run(context, start, end, lease)
        lease.check(reached)
        assert start <= reached <= lease.end
        if reached > start:
            parts[start] = part
        start, end, cuts = reached, lease.end, []


def whole(case: Case, directory: Path, cuts: Cuts) -> tuple[Json, bytes]:
    """The result of a job whose chunk is cut while it runs."""
    body = fresh(case.name)
    with case.opened(directory) as context:
        prepared = prepare(body, context)
        parts: Parts = {}
        run(case, context, *context.span, cuts, parts)
        ordered = [part for _, part in sorted(parts.items()) if part is not None]
        if "items" in (ordered or [{}])[0]:
            combined: Json = {"items": [item for part in ordered for item in part["items"]]}
        else:
            combined = body.combine(context, ordered) if ordered else {}
        context.combined = combined
        changed = body.finish(context, prepared, Recorder()) or {}
        return outcome(context, case, {**combined, **changed})


@pytest.fixture(autouse=True)
def one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are written without a mapping are not counted, so the way must not depend on the time."""
    take_turns(monkeypatch, 0)


_CUTS = st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.0, 0.1, 0.5, 0.9])), min_size=1, max_size=3)


def moves(case: Case, directory: Path, examples: int) -> None:
    """Move the end of a job's chunk at random, several times, and compare with one that stays whole."""

    @settings(max_examples=examples, deadline=None)
    @given(_CUTS)
    def compare(cuts: Cuts) -> None:
        assert whole(case, directory, cuts) == whole(case, directory, [])

    compare()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{CASES.index(case)}")
def test_chunk_when_its_end_moves_then_each_position_is_worked_on_once(case: Case, tmp_path: Path) -> None:
    # A quantum of file.allocate has 64 MiB, so that one example takes a second.
    moves(case, tmp_path, 2 if case.name == "file.allocate" else 8)


def test_cases_when_counted_then_every_function_that_has_a_bound() -> None:
    assert {case.name for case in CASES} == bodies.names() - WHOLE_CALLS - SELFTESTS
    for name in WHOLE_CALLS | SELFTESTS:
        assert bodies.find(name).quantum == UNBOUNDED


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 9), st.integers(0, 9))
def test_pass_over_when_stopped_then_beyond_the_start(
    start: int, more: int, quantum: int, after: int
) -> None:
    """The work at `start` is done, and must not be done again."""
    control = Recorder(stop_after=after)
    reached = pass_over(control, start, start + more, quantum)
    assert reached == start + more or start < reached == control.positions[-1]
    steps = [start, *control.positions, reached]
    assert all(0 <= after - first <= quantum for first, after in pairwise(steps))


@pytest.mark.parametrize("name", [name for name, known in CATALOGUE.items() if known.quantum])
def test_declaration_when_it_has_a_quantum_then_that_of_its_body_and_no_boundary(name: str) -> None:
    declaration = CATALOGUE[name]
    assert declaration.quantum == bodies.find(name).quantum
    assert not declaration.boundary
    assert declaration.quantum % declaration.align == 0
