"""A worker keeps nothing of one user's jobs when another user's jobs begin.

Guards: I8
Tests: ktaskd/worker/loop.py, ktaskd/host/memory/erasing.py
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.worker import frames
from tests.support.remains import places_of
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker, ready

REPEATS = 30_000


@pytest.fixture
def secret() -> bytes:
    return f"data of X {uuid.uuid4().hex} ".encode()


@pytest.fixture
def sources(tmp_path: Path, secret: bytes) -> Iterator[tuple[int, int, int]]:
    """A file, a longer one to copy into, and a memfd, full of the secret."""
    fds = (
        os.open(tmp_path / "src", os.O_RDWR | os.O_CREAT),
        os.open(tmp_path / "dst", os.O_RDWR | os.O_CREAT),
        os.memfd_create("x", os.MFD_CLOEXEC),
    )
    for fd, count in zip(fds, (REPEATS, 2 * REPEATS, REPEATS), strict=True):
        os.write(fd, secret * count)
    yield fds
    for fd in fds:
        os.close(fd)


def work(worker: RealWorker, fds: tuple[int, int, int], secret: bytes) -> None:
    """Jobs of user X that succeed and that fail, with data in sources and in arguments."""
    size = len(secret) * REPEATS
    text = secret.decode()
    for sid, fd in enumerate(fds):
        worker.source(sid, fd, facts_of(fd))
    jobs: list[tuple[str, dict[str, object], int]] = [
        ("file.crc32", {"short": text, "long": text * 99}, 0),
        ("file.crc32", {"": text[:20]}, 2),
        ("no.such.function", {"in": [text]}, 0),
        ("file.crc32", {text: 1}, 77),
    ]
    for jno, (function, arg, sid) in enumerate(jobs, 1):
        worker.job(jno, function, arg, {"data": sid}, (0, size))
        worker.chunk(jno, jno, 0, size)
        worker.receive()
    worker.job(9, "file.copy", {}, {"src": 0, "dst": 1}, (0, size), whole=True)
    worker.step(9, 9, "prepare")
    worker.note(frames.PLANNED)
    worker.note(frames.REPLY)
    worker.chunk(10, 9, 1001, size - 77)
    while isinstance(told := worker.receive(), frames.Note):
        assert told.kind == frames.PRIOR


def begin_of_another(worker: RealWorker) -> None:
    worker.sock.send(frames.pack_note(frames.WIPE, 0))
    worker.job(20, "selftest.noop")
    worker.chunk(20, 20, 0, 1)
    assert worker.done().reached == 1


def test_worker_when_the_user_changes_then_nothing_of_the_last_one_is_in_it(
    secret: bytes, sources: tuple[int, int, int]
) -> None:
    with ready() as worker:
        pid, before = worker.process.pid, worker.fds()
        work(worker, sources, secret)
        assert places_of(pid, secret), "else this looks at the wrong place"
        assert len(worker.fds()) == len(before) + 3
        begin_of_another(worker)
        assert places_of(pid, secret) == []
        assert worker.fds() == before


def test_worker_when_the_user_changes_back_then_all_is_sent_again_and_works(
    secret: bytes, sources: tuple[int, int, int]
) -> None:
    with ready() as worker:
        for _ in range(3):
            work(worker, sources, secret)
            begin_of_another(worker)
        worker.chunk(30, 9, 0, 100)
        assert "was not sent to this worker" in worker.note(frames.FAILED).body["message"]
        assert places_of(worker.process.pid, secret) == []
