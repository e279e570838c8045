"""A real worker keeps its sources, and forgets them when it is asked to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ktaskd.worker import frames
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker

MIB = 1 << 20


def test_source_when_forgotten_then_closed_and_unmapped(worker: RealWorker, memory: int) -> None:
    import fcntl

    os.ftruncate(memory, MIB)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    worker.job(9, "selftest.noop")
    worker.chunk(1, 9, 0, 1)
    worker.done()
    before = worker.fds()
    worker.source(5, memory, facts_of(memory))
    worker.job(1, "mem.fill", {"value": 3}, {"data": 5}, (0, MIB))
    worker.chunk(2, 1, 0, MIB)
    assert worker.done().reached == MIB
    held = worker.fds() - before
    assert held
    for entry in held:
        flags = Path(f"/proc/{worker.process.pid}/fdinfo/{entry.split()[0]}").read_text()
        assert int(flags.split("flags:")[1].split()[0], 8) & os.O_CLOEXEC
    assert "/memfd:memory" in Path(f"/proc/{worker.process.pid}/maps").read_text()
    worker.sock.send(frames.pack_note(frames.FORGET_JOB, 1))
    worker.sock.send(frames.pack_note(frames.FORGET_SOURCE, 5))
    worker.chunk(3, 9, 0, 1)
    worker.done()
    assert worker.fds() == before
    assert "/memfd:memory" not in Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert os.pread(memory, MIB, 0) == b"\3" * MIB
    worker.chunk(4, 1, 0, MIB)
    assert "was not sent" in worker.note(frames.FAILED).body["message"]


def test_source_when_its_number_is_used_again_then_the_first_is_closed(
    worker: RealWorker, memory: int, other_memory: int
) -> None:
    before = len(worker.fds())
    worker.source(5, memory, facts_of(memory))
    worker.source(5, other_memory, facts_of(other_memory))
    worker.job(1, "selftest.noop")
    worker.chunk(1, 1, 0, 1)
    worker.done()
    assert len(worker.fds()) == before + 1


@pytest.mark.parametrize("count", [0, 2])
def test_source_when_not_exactly_one_descriptor_came_then_its_jobs_fail(
    worker: RealWorker, memory: int, count: int
) -> None:
    from ktaskd.worker.codec import facts_to_json

    before = len(worker.fds())
    frame = frames.pack_note(frames.SOURCE, 5, {"facts": facts_to_json(facts_of(memory))})
    socket.send_fds(worker.sock, [frame], [memory] * count)
    worker.job(1, "mem.fill", {}, {"data": 5})
    worker.chunk(1, 1, 0, 1)
    assert "did not arrive" in worker.note(frames.FAILED).body["message"]
    assert len(worker.fds()) == before
