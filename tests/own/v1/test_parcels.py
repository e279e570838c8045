"""A pickle whose large parts are in shared memory is put together again as it was."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ktask.v1 import parcels
from ktask.v1.parcels import Parcel, ParcelInvalid, Store, dump
from ktask.v1.segments import Segment

LARGE = parcels.LARGE_BYTES

atoms = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=5),
    st.sampled_from([LARGE - 1, LARGE, LARGE + 1]).flatmap(
        lambda size: st.sampled_from(
            [b"b" * size, bytearray(b"a" * size), "s" * size, np.arange(size // 8), list(range(size // 8))]
        )
    ),
)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner), max_leaves=5
)


def alike(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other) and one.flags.writeable == other.flags.writeable)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def passed_on(parcel: Parcel) -> Parcel:
    """The parcel as another process receives it."""
    segments = tuple(Segment.received(os.dup(segment.fd)) for segment in parcel.segments)
    return Parcel(parcel.inline, parcel.table, segments)


@settings(deadline=None, max_examples=60)
@given(values, st.booleans())
def test_parcel_when_loaded_then_the_value_that_was_pickled(value: Any, stored: bool) -> None:
    parcel = dump(value, Store() if stored else None)
    assert len(parcel.inline) < LARGE
    assert len(parcel.segments) <= 1
    assert alike(passed_on(parcel).load(), value)


def test_parcel_when_an_array_is_read_only_then_it_stays_so() -> None:
    array = np.zeros(LARGE)
    array.flags.writeable = False
    assert not dump(array).load().flags.writeable


def test_parcel_when_received_twice_then_changes_of_one_are_not_seen_by_the_other() -> None:
    parcel = dump(np.zeros(LARGE))
    one, other = passed_on(parcel).load(), passed_on(parcel).load()
    one[:] = 7
    assert not other.any()
    assert not parcel.load().any()


def test_parcel_when_an_object_reuses_its_buffer_then_each_state_is_kept() -> None:
    scratch = np.zeros(LARGE)
    first, second = dump([Reused(1, scratch), Reused(2, scratch)]).load()
    assert (first[0], second[0]) == (1, 2)


class Reused:
    """Pickled as an array that it fills only then."""

    def __init__(self, number: int, scratch: np.ndarray) -> None:
        self.number, self.scratch = number, scratch

    def __reduce__(self) -> tuple[Any, ...]:
        self.scratch[:] = self.number
        return np.asarray, (self.scratch[:],)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    assert not made._all, "no segment outlives its parcels"


def test_store_when_the_same_array_is_pickled_again_then_copied_once(store: Store) -> None:
    array = np.arange(LARGE)
    parcels_made = [dump((array, i), store) for i in range(5)]
    assert len({id(parcel.segments[0]) for parcel in parcels_made}) == 1
    assert [parcel.load()[1] for parcel in parcels_made] == list(range(5))


def test_store_when_the_array_has_changed_in_between_then_each_parcel_has_its_state(store: Store) -> None:
    array = np.zeros(LARGE)
    made = []
    for i in range(4):
        array[-1] = i // 2
        made.append(dump(array, store))
    assert [parcel.load()[-1] for parcel in made] == [0, 0, 1, 1]
    assert len({id(parcel.segments[0]) for parcel in made}) == 2


def test_store_when_an_address_is_used_again_then_the_new_contents(store: Store) -> None:
    found = []
    kept = []
    for i in range(6):
        kept.append(dump(np.full(LARGE, i), store))  # often where the last array has been
        found.append(int(kept[-1].load()[0]))
    assert found == list(range(6))
    del kept


def test_store_when_many_segments_exist_then_the_rest_is_pickled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "_OPEN_MAX", 2)
    arrays = [np.full(LARGE // 8, i) for i in range(4)]
    made = [dump(array, store) for array in arrays]
    assert [len(parcel.segments) for parcel in made] == [1, 1, 0, 0]
    assert all(map(np.array_equal, (parcel.load() for parcel in made), arrays))


def test_store_when_a_value_has_more_segments_than_travel_together_then_copied(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "SEGMENTS_MAX", 3)
    arrays = [np.full(LARGE // 8, i) for i in range(5)]
    single = [dump(array, store) for array in arrays]
    together = dump(arrays, store)
    assert len(together.segments) == 3
    assert all(map(np.array_equal, together.load(), arrays))
    del single


@pytest.mark.parametrize("method", ["empty", "append"])
def test_parcel_when_there_is_no_memory_or_descriptor_then_all_is_pickled(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("none left")

    monkeypatch.setattr(Segment, method, fail)
    value = [np.arange(LARGE), b"x" * LARGE]
    parcel = dump(value)
    assert alike(Parcel(parcel.inline, parcel.table, parcel.segments).load(), value)


def test_parcel_when_its_table_refers_to_nothing_then_refused() -> None:
    parcel = dump(np.arange(LARGE))
    with pytest.raises(ParcelInvalid, match="no bytes"):
        Parcel(parcel.inline, parcel.table).load()


def test_segment_when_sealed_then_nobody_can_change_it() -> None:
    (segment,) = dump(np.arange(LARGE)).segments
    for change in (lambda: os.pwrite(segment.fd, b"x", 0), lambda: os.ftruncate(segment.fd, 0)):
        with pytest.raises(PermissionError):
            change()


def test_store_when_a_program_may_have_few_descriptors_then_it_takes_an_eighth_of_them() -> None:
    store, limits = Store(), resource.getrlimit(resource.RLIMIT_NOFILE)
    values = [bytearray(LARGE) for _ in range(12)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, limits[1]))
    try:
        kept = [dump(value, store) for value in values]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [len(parcel.segments) for parcel in kept] == [1] * 10 + [0] * 2
