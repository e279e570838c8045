"""Native functions in a real daemon: they work, and their mistakes hurt only their own job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import ktask
import pytest

from tests.native.build import build, declare
from tests.support.real_daemon import Daemon, running, until, write_config
from tests.support.users import reachable_directory

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with reachable_directory() as place:
        functions = place / "functions.d"
        functions.mkdir()
        naughty, clear = build("naughty", place), build("clear_page", place)
        declare(functions, "t.naughty", naughty, "naughty")
        declare(functions, "t.safe", naughty, "naughty", partial="rerun_safe")
        declare(functions, "t.add", naughty, "add_one", undo="take_one")
        declare(functions, "t.clear", clear, "clear_page", unit="page", align=4096)
        declare(functions, "t.none", clear, "no_such")
        (functions / "wrong.toml").write_text("name = 7")
        config = write_config(
            place / "c",
            functions={"dir": str(functions)},
            workers={"hang_cpu_s": 0.3, "cancel_grace_s": 0.3},
        )
        with running(place / "run", "--config", config) as started:
            yield started


@pytest.fixture
def client(daemon: Daemon) -> Iterator[ktask.Client]:
    with ktask.connect(daemon.place) as client:
        yield client


def fails(client: ktask.Client, function: str, memory: ktask.Memory, how: str = "") -> ktask.Job:
    with pytest.raises(ktask.JobFailed) as caught:
        client.run(function, data=memory, arg={"data": how})
    return caught.value.job


def test_functions_when_listed_then_those_that_load_and_the_status_names_the_others(
    client: ktask.Client,
) -> None:
    found = {one.name: one for one in client.functions() if one.name.startswith("t.")}
    assert set(found) == {"t.naughty", "t.safe", "t.add", "t.clear", "t.none"}
    assert found["t.clear"].unit == "page"
    assert [argument.name for argument in found["t.add"].arguments] == ["data"]
    assert found["t.add"].undo
    assert any("wrong.toml: name: got 7, wanted str" in text for text in client.status().missing)


def test_native_when_run_then_all_of_the_source_and_nothing_else(client: ktask.Client) -> None:
    with ktask.memory(SIZE) as memory:
        memory[:] = bytes([1]) * SIZE
        for _ in range(2):
            client.run("t.add", data=memory, ranges=[(5, SIZE - 11)])
        assert memory[:5] == bytes([1]) * 5
        assert memory[5:-6] == bytes([3]) * (SIZE - 11)
        assert memory[-6:] == bytes([1]) * 6
        client.run("t.clear", data=memory)
        assert memory[:] == bytes(SIZE)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("e", r"function 't.naughty': returned 33 \(Numerical argument out of domain\)"),
        ("n", r"function 't.naughty': returned -33 \(Numerical argument out of domain\)"),
        ("o", r"function 't.naughty': returned 12345"),
    ],
)
def test_native_when_it_returns_an_error_then_reported_and_nothing_is_dirty(
    client: ktask.Client, how: str, words: str
) -> None:
    with ktask.memory(SIZE) as memory:
        job = fails(client, "t.naughty", memory, how)
    assert job.error is not None
    assert (str(job.state), job.error.reason) == ("FAILED", "FUNCTION_ERROR")
    assert re.fullmatch(words, job.error.message)


@pytest.mark.parametrize(
    ("how", "says"),
    [("c", "SIGABRT"), ("s", "SIGSEGV"), ("a", "SIGSEGV"), ("b", "SIGSEGV"), ("x", "exit status 0")],
)
@pytest.mark.parametrize("function", ["t.naughty", "t.safe"])
def test_native_when_it_crashes_or_leaves_its_range_then_only_its_job_is_lost(
    client: ktask.Client, function: str, how: str, says: str
) -> None:
    with ktask.memory(SIZE) as memory, ktask.memory(4096) as other:
        detached = client.submit("selftest.spin", arg={"ms": 1.0}, ranges=[(0, 30)])
        job = fails(client, function, memory, how)
        assert job.error is not None
        assert (str(job.state), job.error.reason) == ("DIRTY", "WORKER_LOST")
        assert says in job.error.message
        assert ("3 times" in job.error.message) == (function == "t.safe")
        *_, last = client.watch(detached)
        assert str(last.job.state) == "SUCCEEDED"
        client.run("t.add", data=other)
        assert other[:] == bytes([1]) * 4096


def test_native_when_it_loops_forever_then_it_is_killed(client: ktask.Client) -> None:
    with ktask.memory(MIB) as memory:
        job = fails(client, "t.naughty", memory, "l")
    assert job.error is not None
    assert (str(job.state), job.error.reason) == ("DIRTY", "WORKER_LOST")
    assert "without progress" in job.error.message


def test_native_when_a_piece_fails_then_the_others_are_undone(client: ktask.Client) -> None:
    with ktask.memory(SIZE) as memory:
        before = bytes(range(200)) * (SIZE // 200 + 1)
        memory[:] = before[:SIZE]
        memory[5 * MIB + 7] = 0xFF
        job = fails(client, "t.add", memory)
        memory[5 * MIB + 7] = before[5 * MIB + 7]
        assert memory[:] == before[:SIZE]
    assert job.error is not None
    assert (str(job.state), job.error.message) == (
        "FAILED",
        "function 't.add': returned 5 (Input/output error)",
    )


def test_native_when_the_symbol_is_missing_then_the_job_fails(client: ktask.Client) -> None:
    with ktask.memory(MIB) as memory:
        job = fails(client, "t.none", memory)
    assert job.error is not None
    assert "function 't.none': cannot be loaded: " in job.error.message
    assert "no_such" in job.error.message


def test_worker_when_it_has_run_native_code_then_it_serves_no_other_job(
    client: ktask.Client, daemon: Daemon
) -> None:
    def pids() -> set[int]:
        return {worker.pid for pool in client.status().pools for worker in pool.workers if worker.pid}

    def counter(name: str) -> int:
        return client.status().counters[name]

    died = counter("workers_died")
    with ktask.memory(64 * MIB) as memory:
        before: set[int] = pids()
        client.run("t.clear", data=memory)
        client.run("file.crc32", data=memory)
        until(lambda: bool(before - pids()), "who ran it is gone")
    assert counter("workers_died") == died


def test_library_when_its_path_leads_to_another_later_then_still_the_one_that_was_looked_at(
    client: ktask.Client, daemon: Daemon
) -> None:
    library = daemon.place.parent / "clear_page.so"
    library.rename(library.with_suffix(".old"))
    try:
        library.write_bytes((library.parent / "naughty.so").read_bytes())
        with ktask.memory(MIB) as memory:
            memory[:] = bytes([1]) * MIB
            client.run("t.clear", data=memory)
            assert memory[:] == bytes(MIB)
    finally:
        library.with_suffix(".old").rename(library)


def test_library_when_others_may_write_it_later_then_its_functions_are_refused(
    client: ktask.Client, daemon: Daemon
) -> None:
    library = daemon.place.parent / "clear_page.so"
    mode = library.stat().st_mode
    library.chmod(0o777)
    try:
        with ktask.memory(MIB) as memory, pytest.raises(ktask.KtaskError) as caught:
            client.run("t.clear", data=memory)
        assert caught.value.reason == "FUNCTION_UNAVAILABLE"
        assert "clear_page.so: other users can write it (mode 0777)" in str(caught.value)
    finally:
        library.chmod(mode)


def test_path_when_a_file_is_given_then_it_is_changed(client: ktask.Client, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10_000))
    client.run("t.add", data=path)
    assert path.read_bytes() == bytes([1]) * 10_000
