"""Large arguments and results reach their receiver through shared memory, once, as private copies."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import ktask
import numpy as np
import pytest
from ktask.v1 import parcels

from tests.own import things
from tests.support.real_daemon import until

COUNT = parcels.LARGE_BYTES // 4
"""Numbers of an array that is twice as large as necessary."""


def memory_left() -> list[str]:
    """The memory of calls that this process has mapped or open."""
    gc.collect()
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "ktask-call" in line]
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return mapped + [link for link in links if os.path.lexists(link) and "ktask-call" in os.readlink(link)]


def test_argument_when_large_then_a_private_copy_in_shared_memory(executor: ktask.Executor) -> None:
    array = np.zeros(COUNT)
    number, found = executor.submit(things.where_from_and_changed, array).result()
    assert number
    assert found.sum() == COUNT
    assert not array.any()
    found[:] = 3  # so is the result


@pytest.mark.parametrize("make", [bytes, bytearray, lambda size: "x" * size])
def test_result_when_large_and_no_array_then_of_its_type(executor: ktask.Executor, make: Any) -> None:
    value = make(5 * parcels.LARGE_BYTES)
    found = executor.submit(things.same, value).result()
    assert type(found) is type(value)
    assert found == value
    until(lambda: not memory_left(), "its memory is given back")


def test_map_when_calls_have_the_same_array_then_it_is_handed_over_once(executor: ktask.Executor) -> None:
    array = np.arange(float(COUNT))
    found = list(executor.map(things.where_from, [array] * 8))
    assert len(set(found)) == 1
    assert found[0]


def test_map_when_the_array_changes_between_calls_then_each_has_its_state(executor: ktask.Executor) -> None:
    array = np.zeros(COUNT)

    def states() -> Any:
        for i in range(6):
            array[-1] = i // 2
            yield array

    assert list(executor.map(things.last_of, states())) == [0, 0, 1, 1, 2, 2]
    futures = []
    for i in range(3):
        array[-1] = i
        futures.append(executor.submit(things.last_of, array))
    array[-1] = 7
    assert [future.result() for future in futures] == [0, 1, 2]


def test_function_when_it_has_a_large_array_then_in_shared_memory(executor: ktask.Executor) -> None:
    array = np.arange(float(COUNT))
    found = list(executor.map(lambda i: (things.where_from(array), float(array[i])), range(20)))
    assert [value for _, value in found] == list(range(20))
    assert len({place for place, _ in found}) == 1
    assert found[0][0]


def test_result_when_it_is_a_view_of_the_argument_then_whole(executor: ktask.Executor) -> None:
    array = np.arange(float(COUNT))
    for _ in range(3):
        view = executor.submit(things.middle_of, array).result()
        assert np.array_equal(view, things.middle_of(array))


def test_argument_when_the_worker_keeps_it_then_it_lasts(daemon: Any) -> None:
    array = np.arange(float(COUNT))
    with ktask.Executor(1, target=daemon.place) as executor:
        executor.submit(things.keep, array).result()
        for i in range(5):
            executor.submit(things.last_of, np.full(COUNT, i)).result()
        assert executor.submit(things.kept_sum).result() == array.sum()
        executor.submit(things.keep, None).result()


def test_memory_when_results_are_dropped_then_given_back(executor: ktask.Executor) -> None:
    arrays = [np.full(COUNT, float(i)) for i in range(4)]
    results = list(executor.map(things.same, arrays * 3))
    assert [int(result[0]) for result in results] == [0, 1, 2, 3] * 3
    del results
    until(lambda: not memory_left(), "nothing is mapped or open")
    assert list(executor.map(things.memory_left, range(8))) == [0] * 8


def test_memory_when_the_call_fails_then_given_back(executor: ktask.Executor) -> None:
    array = np.zeros(COUNT)
    with pytest.raises(ValueError, match="no such thing"):
        executor.submit(things.fail_with, array).result()
    with pytest.raises(ktask.WorkerLost):
        executor.submit(things.die, array).result()
    until(lambda: not memory_left(), "nothing is mapped or open")


def test_map_when_arrays_are_more_than_descriptors_then_all_arrive(
    executor: ktask.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "_OPEN_MAX", 5)
    arrays = [np.full(COUNT, float(i)) for i in range(30)]
    assert list(executor.map(things.last_of, arrays)) == list(range(30))
