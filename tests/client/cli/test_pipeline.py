"""Batches of files: several at a time, in order, and closed whatever happens. No daemon."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from ktask.cli import pipeline
from ktask.cli.batches import Opened
from ktask.cli.pipeline import JOBS_AHEAD, in_order
from ktask.link.caller import Caller
from ktask.link.session import Session

_PATIENCE_S = 30.0


class FakeSession:
    """The threads of a session; to close it ends the calls that wait."""

    def __init__(self) -> None:
        self.caller = Caller()
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def session() -> Iterator[FakeSession]:
    fake = FakeSession()
    yield fake
    fake.caller.close()
    for thread in threading.enumerate():
        if thread.name == "ktask-call":
            thread.join(_PATIENCE_S)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Files and missing files in turn; a batch has at most ten."""
    monkeypatch.setattr(pipeline, "FILES_PER_JOB", 10)
    found = [os.fsencode(tmp_path / f"{i:03}") for i in range(101)]
    for name in found[::2]:
        Path(os.fsdecode(name)).write_bytes(name)
    return found


def run(session: FakeSession, names: Sequence[bytes], work: Any) -> Iterator[list[tuple[Opened[bytes], Any]]]:
    return in_order(cast(Session, session), names, lambda name: name, work)


def content(opened: Sequence[Opened[bytes]]) -> list[bytes]:
    return [one.file.read() if one.file else b"" for one in opened]


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_when_in_batches_then_each_once_in_order_and_closed(
    session: FakeSession, names: list[bytes]
) -> None:
    before, seen = open_count(), []
    for batch in run(session, names, content):
        assert len(batch) <= 10
        for one, found in batch:
            assert (one.file is None) == bool(one.problem) == (found == b"")
            assert found in (b"", one.asked)
            seen.append(one.asked)
    assert seen == names
    assert open_count() == before
    assert not session.closed.is_set()


def test_batches_when_there_are_several_then_they_are_worked_on_at_the_same_time(
    session: FakeSession, names: list[bytes]
) -> None:
    together = threading.Barrier(JOBS_AHEAD)

    def work(opened: Sequence[Opened[bytes]]) -> list[bytes]:
        together.wait(_PATIENCE_S)
        return content(opened)

    batches = list(run(session, names[: 10 * JOBS_AHEAD], work))
    assert [len(batch) for batch in batches] == [10] * JOBS_AHEAD


def test_batches_when_one_fails_then_the_others_end_and_all_files_are_closed(
    session: FakeSession, names: list[bytes]
) -> None:
    before = open_count()

    def work(opened: Sequence[Opened[bytes]]) -> list[bytes]:
        if opened[0].asked != names[0]:
            assert session.closed.wait(_PATIENCE_S), "its files are open until it has ended"
            assert all(os.fstat(one.file.fileno()) for one in opened if one.file)
        raise ValueError(opened[0].asked)

    with pytest.raises(ValueError, match=os.fsdecode(names[0])):
        list(run(session, names, work))
    assert open_count() == before


def test_batches_when_interrupted_between_them_then_all_files_are_closed(
    session: FakeSession, names: list[bytes]
) -> None:
    before = open_count()
    batches = run(session, names, content)
    assert len(next(batches)) == 10
    batches.close()  # type: ignore[attr-defined]
    assert open_count() == before


@pytest.mark.parametrize("room", [0, 1, 2, 7])
def test_files_when_few_descriptors_are_left_then_smaller_batches(
    session: FakeSession, names: list[bytes], room: int
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # One is that of the directory while its entries are counted.
    few = open_count() + pipeline._SPARE_FILES + room
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    try:
        batches = list(run(session, names, content))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [found for batch in batches for _, found in batch] == [
        name if i % 2 == 0 else b"" for i, name in enumerate(names)
    ]
    assert max(map(len, batches)) <= max(room, 1)
