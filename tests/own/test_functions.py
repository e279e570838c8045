"""Client.run and Client.map with the caller's own functions, in a daemon of the same user."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import ktask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.own import functions as own_client
from ktask.v1 import code

from ktaskd.functions.own import run as own
from ktaskd.model import limits
from tests.own import things
from tests.support.real_daemon import Daemon, until

MIB = 1 << 20


def fails(client: ktask.Client, function: Any, **fields: Any) -> ktask.JobFailed:
    with pytest.raises(ktask.JobFailed) as caught:
        client.run(function, **fields)
    return caught.value


@pytest.mark.parametrize("threads", [1, 2])
def test_run_when_it_writes_memory_then_every_byte_once(client: ktask.Client, threads: int) -> None:
    def add(data: Any, start: int, end: int, arg: int) -> None:
        numbers = np.frombuffer(data.view(start, end), np.uint32)
        numbers += arg

    with ktask.memory(16 * MIB + 4) as m:
        job = client.run(add, data=m, arg=3, align=4, min_chunk=MIB, max_threads=threads)
        assert job.result is None
        assert job.progress.bytes_done == len(m)
        assert not np.count_nonzero(np.frombuffer(m, np.uint32) != 3)


def test_run_when_combined_then_in_the_order_of_positions(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(5 * MIB + 1))

    def summed(data: Any, start: int, end: int, arg: None) -> list[tuple[int, int]]:
        return [(start, zlib.crc32(data.view(start, end)))]

    def joined(parts: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
        return [pair for part in parts for pair in part]

    for source in (path, str(path), path.open("rb"), ktask.file(path)):
        result = client.run(summed, data=source, combine=joined, min_chunk=MIB).result
        assert result is not None
        starts = [start for start, _ in result["value"]]
        assert starts == sorted(starts)
        edges = [*starts, 5 * MIB + 1]
        data = path.read_bytes()
        assert [crc for _, crc in result["value"]] == [zlib.crc32(data[a:b]) for a, b in pairwise(edges)]
        if not isinstance(source, str | Path):
            source.close()


def test_run_when_nothing_combines_then_what_the_calls_returned_in_order(client: ktask.Client) -> None:
    fields: dict[str, Any] = {"ranges": [(0, 10), (100, 5)], "min_chunk": 1}
    result = client.run(lambda data, start, end, arg: list(range(start, end)), **fields).result
    assert result is not None
    assert [one for part in result["value"] for one in part] == [*range(10), *range(100, 105)]
    result = client.run(lambda data, start, end, arg: start or None, **fields).result
    assert result is not None
    assert result["value"][0] is None
    assert 100 in result["value"]
    assert client.run(lambda data, start, end, arg: None, **fields).result is None


def test_run_when_calls_return_too_much_to_keep_then_said_how_many_are_left_out(client: ktask.Client) -> None:
    fields: dict[str, Any] = {"ranges": [(0, 16)], "min_chunk": 1, "max_threads": 2}
    with pytest.warns(RuntimeWarning, match="results of [0-9]+ calls are left out; give `combine`"):
        result = client.run(lambda data, start, end, arg: bytes(12_000), **fields).result
    assert result is not None
    assert result["value"] == [bytes(12_000)]
    assert result["left_out"] > 0


@pytest.mark.parametrize("value", [lambda: bytes(100_000), threading.Lock], ids=["large", "lock"])
def test_run_when_a_call_returns_what_cannot_be_kept_then_the_job_is_none_the_worse(
    client: ktask.Client, value: Any
) -> None:
    with pytest.warns(RuntimeWarning, match="results of 1 calls are left out"):
        result = client.run(lambda data, start, end, arg: value(), ranges=[(0, 1)]).result
    assert result == {"value": [], "left_out": 1}


RETURNED = st.none() | st.integers(0, 9) | st.binary(min_size=4000, max_size=9000)


@given(st.lists(st.lists(RETURNED), max_size=30))
def test_gathered_when_joined_in_any_order_then_the_first_that_fit(parts: list[list[Any]]) -> None:
    made = [own._gathered([_part(value) for value in values]) for values in parts if values]
    if not made:
        return
    flat = [value for values in parts for value in values]
    at_once = own._gathered(made)
    one_by_one = functools.reduce(lambda left, right: own._gathered([left, right]), made)
    for found in (at_once, one_by_one):
        assert found["calls"] == len(flat)
        values = [own_client._unpacked(one) for one in found.get("values", [])]
        assert values == flat[: len(values)]
        assert len(json.dumps(found)) <= limits.PART_BYTES_MAX
    assert at_once == one_by_one


def _part(value: Any) -> dict[str, Any]:
    return own._of_one_call(value)


def test_run_when_there_are_only_ranges_then_those_positions(client: ktask.Client) -> None:
    result = client.run(
        lambda data, start, end, arg: (data, sum(range(start, end)) * arg),
        ranges=[(0, 10), (100, 5)],
        arg=2,
        combine=lambda parts: (parts[0][0], sum(part[1] for part in parts)),
    ).result
    assert result == {"value": (None, 2 * (sum(range(10)) + sum(range(100, 105))))}


def test_run_when_the_source_is_empty_then_nothing_is_called(client: ktask.Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert client.run(things.die, data=tmp_path / "empty").state == "SUCCEEDED"


def test_run_when_writes_is_set_for_a_path_then_written(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(MIB))
    client.run(lambda d, s, e, a: d.write(s, bytes([a]) * (e - s)), data=path, writes=True, arg=7)
    assert path.read_bytes() == b"\x07" * MIB
    error = fails(client, lambda d, s, e, a: d.write(s, b"x"), data=path)
    assert error.job.error is not None
    assert "submit with writes=True" in error.job.error.message
    assert error.job.state == "FAILED"  # not dirty, since it cannot have written


def test_run_when_it_raises_then_the_traceback_and_that_chunk_is_dirty(client: ktask.Client) -> None:
    def half(data: Any, start: int, end: int, arg: None) -> None:
        data.view(start, end)[: (end - start) // 2] = b"x" * ((end - start) // 2)
        if end == 8 * MIB:
            raise things.Marked("one", "other")
        data.view(start, end)[:] = b"x" * (end - start)

    def back(data: Any, start: int, end: int, arg: None) -> None:
        data.write(start, bytes(end - start))

    with ktask.memory(8 * MIB) as m:
        error = fails(client, half, data=m, undo=back, min_chunk=MIB)
        job = error.job
        assert job.error is not None
        assert (job.state, job.error.reason) == ("DIRTY", "FUNCTION_ERROR")
        assert job.error.message == "Marked: one and other"
        assert "in half" in job.error.exception
        assert "in half" in error.__notes__[0]
        (dirty,) = job.error.dirty
        assert dirty == job.error.chunk
        assert m[: dirty.start] == bytes(dirty.start)


@pytest.mark.parametrize("how", [things.die, things.leave], ids=["killed", "exit"])
def test_run_when_its_worker_would_end_then_this_job_ends_badly_alone(client: ktask.Client, how: Any) -> None:
    with ktask.memory(MIB) as m:
        error = fails(client, how, data=m)
        assert error.reason == ("WORKER_LOST" if how is things.die else "FUNCTION_ERROR")
        # A function that raises before it asked for its data has not changed it. A dead one cannot say.
        assert error.job.state == ("DIRTY" if how is things.die else "FAILED")
        assert client.run(lambda d, s, e, a: e - s, data=m, combine=sum).result == {"value": MIB}


def test_run_when_an_exception_cannot_be_printed_then_its_type_is_reported(client: ktask.Client) -> None:
    error = fails(client, lambda *_: things.raise_it(things.Unspeakable()), ranges=[(0, 1)])
    assert error.job.error is not None
    assert error.job.error.message == "Unspeakable: cannot be put into words: ValueError"


@pytest.mark.parametrize("number", ["text", 2**40, -5, None])
def test_run_when_an_errno_is_none_then_the_job_fails_with_0(client: ktask.Client, number: Any) -> None:
    error = fails(client, lambda *_: things.raise_it(OSError(number, "odd")), ranges=[(0, 1)])
    assert error.job.error is not None
    assert (error.reason, error.job.error.errno) == ("FUNCTION_ERROR", 0)


def test_run_when_cancelled_in_a_loop_then_killed_and_dirty(client: ktask.Client) -> None:
    def loop(data: Any, start: int, end: int, arg: None) -> None:
        while True:
            pass

    with ktask.memory(MIB) as m:
        error = fails(client, loop, data=m, timeout=0.5)
        assert error.reason == "DEADLINE"
        assert error.job.state == "DIRTY"


def test_run_when_code_is_run_then_its_worker_ends_with_the_job(client: ktask.Client) -> None:
    def pid(*_: object) -> set[int]:
        return {os.getpid()}

    def union(parts: list[set[int]]) -> set[int]:
        return set().union(*parts)

    result = client.run(pid, ranges=[(0, 2)], combine=union).result
    assert result is not None
    for worker in result["value"]:
        until(lambda: not Path(f"/proc/{worker}").exists(), "it has ended")  # noqa: B023
    (function,) = client.functions("python.run")
    assert "own" in function.summary


def test_run_when_a_result_is_too_large_then_the_job_fails(client: ktask.Client) -> None:
    error = fails(client, lambda *_: bytes(10**6), ranges=[(0, 1)], combine=lambda parts: parts[0])
    assert error.job.error is not None
    assert "result of a chunk: got" in error.job.error.message


def test_run_when_arguments_cannot_be_right_then_type_error(client: ktask.Client) -> None:
    for fields, words in [
        ({}, "data: missing, and so are ranges"),
        ({"src": "x"}, 'source "src"'),
        ({"items": ["x"], "ranges": [(0, 1)]}, "items"),
        ({"ranges": [(0, 1)], "combine": 3}, "combine: got 3"),
        ({"ranges": [(0, 1)], "undo": 3}, "undo: got 3"),
    ]:
        with pytest.raises(TypeError, match=words):
            client.run(lambda *_: None, **fields)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="combine: got"):
        client.run("mem.fill", combine=sum, data="x")
    with pytest.raises(TypeError, match="undo: got"):
        client.run("mem.fill", undo=sum, data="x")
    with pytest.raises(TypeError, match="pickle"):
        client.run(lambda *_: None, ranges=[(0, 1)], arg=things.WontPickle())


def test_code_when_of_another_python_then_refused(
    client: ktask.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "PYTHON", "3.2")
    error = fails(client, lambda *_: None, ranges=[(0, 1)])
    assert error.job.error is not None
    assert "pickled by Python 3.2, but this is Python" in error.job.error.message
    with pytest.raises(ktask.KtaskError, match="with the same version") as caught:
        list(client.map(things.square, [1]))
    assert caught.value.reason == "PYTHON_DIFFERS"


def test_code_when_it_is_none_then_the_job_fails(daemon: Daemon, client: ktask.Client) -> None:
    with ktask.memory(100) as m:
        error = fails(client, "python.run", code=m, ranges=[(0, 1)])
        assert error.job.error is not None
        assert "wanted code that ktask.Client.run has pickled" in error.job.error.message
    error = fails(client, "python.calls", arg={"line": "nobody-is-there"}, ranges=[(0, 1)])
    assert error.job.error is not None
    assert '"nobody-is-there": No such file' in error.job.error.message


def test_map_when_called_then_results_in_order(client: ktask.Client) -> None:
    assert list(client.map(lambda x: x * 10, range(20))) == [x * 10 for x in range(20)]
    assert list(client.map(pow, [2, 3], [3, 2], chunksize=2, max_threads=1)) == [8, 9]
    found = client.map(things.square, [1, "x"])
    assert next(found) == 1
    with pytest.raises(TypeError):
        next(found)


def test_network_when_the_code_is_ones_own_then_not_given_up_and_else_it_is(client: ktask.Client) -> None:
    def listens(*_: object) -> bool:
        import socket

        with socket.socket() as one:
            return one.fileno() >= 0

    result = client.run(listens, ranges=[(0, 1)], combine=all).result
    assert result == {"value": True}
    before = _chunks(client)  # the worker of the caller's own code may not have ended yet
    with ktask.memory(MIB) as m:
        client.run("mem.fill", data=m)
        busy = [pid for pid, chunks in _chunks(client).items() if chunks > before.get(pid, 0)]
        filters = {pid: _filters(pid) for pid in busy}
    assert filters
    assert set(filters.values()) == {"2"}  # SECCOMP_MODE_FILTER


def _chunks(client: ktask.Client) -> dict[int, int]:
    """The chunks that each worker has done."""
    return {worker.pid: worker.chunks for pool in client.status().pools for worker in pool.workers}


def _filters(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


def test_worker_when_stopped_in_a_call_then_others_go_on(client: ktask.Client, tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)

    found = client.map(stop, [1], timeout=0.5)
    assert list(client.map(things.square, range(5))) == [0, 1, 4, 9, 16]
    with pytest.raises(TimeoutError):
        next(found)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
