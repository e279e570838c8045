"""Results of items: in order, in pieces of bounded size, and a reader can go on after any of them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.items import ItemResults, encode
from ktaskd.jobs.parts import Parts, take_fitting
from ktaskd.model.job import RangeSpec
from ktaskd.model.limits import PART_BYTES_MAX, RESULT_BYTES_MAX, RESULT_VALUES_MAX


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Pieces [start, end) of 0..n in any order, which together are all of it."""
    cuts = sorted(draw(st.sets(st.integers(1, 39), max_size=12)) | {0, 40})
    return draw(st.permutations(list(pairwise(cuts))))


@given(arrivals(), st.integers(1, 60), st.integers(1, 10), st.integers(0, 50))
def test_results_when_they_come_in_any_order_then_a_reader_gets_each_once(
    pieces: list[tuple[int, int]], bytes_max: int, count_max: int, stop_after: int
) -> None:
    items, version = ItemResults([RangeSpec(0, 40)]), 1
    read: list[int] = []
    seen = place = 0
    for start, end in pieces:
        version = items.add(start, [encode({"i": i}) for i in range(start, end)], version)
        if len(read) > stop_after:
            place = items.place_after(seen)  # it went away, and comes back with what it had read
        while batch := items.batch(place, bytes_max, count_max):
            assert len(batch) <= count_max
            assert len(batch) == 1 or sum(len(encode(result)) for _, result in batch) <= bytes_max
            assert all(result == {"i": index} for index, result in batch)
            read += [index for index, _ in batch]
            place += len(batch)
            seen = items.version_at(place - 1)
            assert items.place_after(seen) == place
            assert seen <= version
    assert read == list(range(40))
    assert [(index, result) for _, index, result in items] == [(i, {"i": i}) for i in range(40)]


def test_results_when_dropped_then_their_number_is_known_and_nothing_is_held() -> None:
    items = ItemResults([RangeSpec(0, 3)])
    items.add(0, [b"{}", b"{}"], 1)
    items.drop()
    items.drop()
    assert (items.dropped, len(items), items.held_bytes) == (2, 0, 0)
    assert items.batch(0, 100, 100) == []


def test_results_when_they_are_many_then_each_has_its_version_and_index() -> None:
    results = ItemResults([RangeSpec(0, 1000)])
    results.add(0, [encode({"n": n}) for n in range(1000)], 5)
    assert list(results) == [(6 + n, n, {"n": n}) for n in range(1000)]


def test_results_when_they_are_large_or_of_many_values_then_not_for_one_message() -> None:
    large, many, small = (ItemResults([RangeSpec(0, 2)]) for _ in range(3))
    large.add(0, [encode({"text": "x" * RESULT_BYTES_MAX})], 1)
    many.add(0, [encode({"lines": [1] * (RESULT_VALUES_MAX + 1)})], 1)
    small.add(0, [encode({"lines": [1] * (RESULT_VALUES_MAX // 2)})], 1)
    assert (large.fits, many.fits, small.fits) == (False, False, True)


@given(st.text(), st.integers(), st.floats(allow_nan=False))
def test_result_when_encoded_then_the_same_again(text: str, number: int, ratio: float) -> None:
    result: dict[str, Any] = {text: [number, ratio, None, {"deep": text + "\udc80"}]}
    assert json.loads(encode(result)) == result


@given(st.permutations(list(range(0, 60, 2))), st.integers(1, 2 * PART_BYTES_MAX))
def test_parts_when_they_come_in_any_order_then_taken_in_order_as_many_as_fit(
    starts: list[int], size: int
) -> None:
    parts = Parts()
    for start in starts:
        text = b'{"n":%d,"x":"%s"}' % (start, b"x" * (size // 60))
        assert parts.add(start, text) > len(text)
    taken = parts.take_all()
    assert (len(taken), len(parts)) == (30, 0)
    found: list[int] = []
    while taken:
        before = len(taken)
        batch = take_fitting(taken)
        assert len(batch) >= min(before, 2)
        assert len(batch) <= 2 or sum(len(json.dumps(part)) for part in batch) <= 2.2 * PART_BYTES_MAX
        found += [part["n"] for part in batch]
    assert found == sorted(starts)
