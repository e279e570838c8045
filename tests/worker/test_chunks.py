"""A real worker processes chunks, gives back what was recalled, and cleans up what failed."""

from __future__ import annotations

import json
import os
import signal
import socket
import zlib
from pathlib import Path

import pytest

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, Note
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker, ready, wait_until

MIB = 1 << 20


def policies_of(pid: int) -> set[str]:
    return {line.split()[1] for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines()}


def test_chunk_when_processed_then_done_and_the_page_says_which(worker: RealWorker) -> None:
    worker.job(1, "selftest.noop")
    worker.chunk(7, 1, 20, 30)
    done = worker.done()
    assert (done.seq, done.reached, done.part) == (7, 30, b"")
    assert (worker.seq, worker.position) == (7, 20)


def test_chunk_when_it_names_a_node_then_new_pages_come_from_there(worker: RealWorker) -> None:
    """Even if a lead runs it, which belongs to no node."""
    if not Path(f"/proc/{worker.process.pid}/numa_maps").exists():
        return
    worker.job(1, "selftest.noop")
    before = policies_of(worker.process.pid)
    worker.chunk(1, 1, 0, 1, nid=0)
    worker.done()
    assert policies_of(worker.process.pid) == {"prefer:0"} or before == {"default"} == policies_of(
        worker.process.pid
    )
    worker.chunk(2, 1, 1, 2)
    worker.done()
    assert policies_of(worker.process.pid) == before


def test_chunk_when_cpu_was_burnt_then_done_says_how_much(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 2.0})
    worker.chunk(1, 1, 0, 5)
    assert worker.done().cpu_ns >= 10_000_000
    assert worker.beats >= 5


def test_chunk_when_argument_not_given_then_default(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin")
    worker.chunk(1, 1, 0, 3)
    assert worker.done().cpu_ns >= 3_000_000


def test_chunk_when_recalled_before_begun_then_given_back_whole(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 1000.0})
    worker.recall(3)
    worker.chunk(3, 1, 10, 20)
    assert worker.done() == Done(3, 10, 0, b"")


def test_chunk_when_recalled_in_the_middle_then_rest_given_back(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 5.0})
    worker.chunk(3, 1, 10, 1_000_000)
    wait_until(lambda: worker.seq == 3 and worker.position > 11)
    worker.recall(3)
    done = worker.done()
    assert 11 < done.reached < 1_000_000
    assert done.reached == worker.position


def test_chunk_when_recalled_inside_one_position_then_that_one_is_given_back(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 3_000_000.0})
    worker.chunk(3, 1, 10, 20)
    wait_until(lambda: worker.beats > 3)
    worker.recall(3)
    assert worker.done().reached == 10


def test_two_queued_chunks_when_both_recalled_then_second_not_begun(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 1.0})
    worker.chunk(1, 1, 0, 1_000_000)
    worker.chunk(2, 1, 1_000_000, 2_000_000)
    wait_until(lambda: worker.position > 2)
    worker.recall(2)
    first, second = worker.done(), worker.done()
    assert (first.seq, second.seq) == (1, 2)
    assert 2 < first.reached < 1_000_000
    assert second == Done(2, 1_000_000, 0, b"")


def test_two_queued_chunks_when_first_recalled_then_second_is_processed(worker: RealWorker) -> None:
    worker.job(1, "selftest.spin", {"ms": 1.0})
    worker.chunk(1, 1, 0, 1_000_000)
    worker.chunk(2, 1, 1_000_000, 1_000_003)
    wait_until(lambda: worker.position > 2)
    worker.recall(1)
    assert worker.done().reached < 1_000_000
    assert worker.done().reached == 1_000_003


def test_chunk_when_function_fails_then_failed_says_all(worker: RealWorker) -> None:
    worker.job(1, "selftest.fail", {"at": 5, "errno": 28})
    worker.chunk(1, 1, 0, 10)
    failed = worker.note(frames.FAILED)
    assert failed.number == 1
    assert (failed.body["errno"], failed.body["reached"], failed.body["dirty"]) == (28, 5, [])
    assert "position 5" in failed.body["message"]
    assert failed.body["exception"].startswith("OSError: [Errno 28]")
    worker.chunk(2, 1, 6, 10)
    assert worker.done().reached == 10


def test_chunk_when_job_is_not_known_then_failed(worker: RealWorker) -> None:
    worker.chunk(1, 9, 0, 10)
    assert "was not sent to this worker" in worker.note(frames.FAILED).body["message"]


def test_chunk_when_function_has_no_body_then_failed(worker: RealWorker) -> None:
    worker.job(1, "no.such")
    worker.chunk(1, 1, 0, 10)
    assert "'no.such'" in worker.note(frames.FAILED).body["message"]


def test_chunk_when_it_fails_then_the_worker_undoes_what_was_done(worker: RealWorker, memory: int) -> None:
    os.ftruncate(memory, 20)
    worker.source(1, memory, facts_of(memory))
    worker.job(1, "selftest.undo_log", {"fail_at": 7}, {"data": 1})
    worker.chunk(1, 1, 2, 12)
    failed = worker.note(frames.FAILED)
    assert (failed.body["reached"], failed.body["dirty"]) == (7, [])
    assert os.pread(memory, 20, 0) == bytes([0] * 2 + [17] * 5 + [0] * 13)
    # The page still shows how far the chunk got, not how far its undo got.
    assert worker.position == 7


def test_chunk_when_it_fails_before_it_changed_a_byte_then_nothing_is_dirty(
    worker: RealWorker, memory: int
) -> None:
    os.ftruncate(memory, 64 * MIB)
    worker.source(1, memory, facts_of(memory))
    worker.job(1, "mem.fill", {"value": 300}, {"data": 1})
    worker.chunk(1, 1, 5 * MIB, 60 * MIB)
    failed = worker.note(frames.FAILED)
    assert failed.body["dirty"] == []
    assert "ValueError" in failed.body["exception"]


def test_copy_when_it_fails_then_holes_are_back_and_the_rest_is_dirty(
    worker: RealWorker, memory: int, other_memory: int
) -> None:
    os.pwrite(memory, b"s" * (8 * MIB), 0)
    os.ftruncate(other_memory, 12 * MIB)
    os.pwrite(other_memory, b"d" * MIB, MIB)
    worker.source(1, memory, facts_of(memory))
    worker.source(2, other_memory, facts_of(other_memory, own_offset=True))
    worker.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, 12 * MIB))
    worker.chunk(1, 1, 0, 12 * MIB)
    priors = [worker.note(frames.PRIOR), worker.note(frames.PRIOR)]
    assert [note.body for note in priors] == [
        {"start": 0, "end": 4 * MIB, "holes": [[0, MIB], [2 * MIB, 4 * MIB]]},
        {"start": 4 * MIB, "end": 8 * MIB, "holes": [[4 * MIB, 8 * MIB]]},
    ]
    failed = worker.note(frames.FAILED)
    assert failed.body["dirty"] == [[MIB, 2 * MIB]]
    assert "but the job needs" in failed.body["message"]
    assert os.lseek(other_memory, 0, os.SEEK_DATA) == MIB
    assert os.lseek(other_memory, MIB, os.SEEK_HOLE) == 2 * MIB


def test_copy_when_killed_in_the_middle_then_all_it_changed_was_reported_before(
    memory: int, other_memory: int
) -> None:
    size = 128 * MIB
    for position in range(0, size, MIB):
        os.pwrite(memory, b"s" * MIB, position)
    os.ftruncate(other_memory, size)
    with ready() as worker:
        worker.source(1, memory, facts_of(memory))
        worker.source(2, other_memory, facts_of(other_memory, own_offset=True))
        worker.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, size))
        worker.chunk(1, 1, 0, size)
        first = worker.note(frames.PRIOR)
        worker.process.kill()
        worker.process.wait()
        assert worker.seq == 1
        told = first.body["end"]
        while frame := worker.sock.recv(FRAME_BYTES_MAX):
            note = frames.unpack_note(frame)
            assert isinstance(note, Note)
            assert note.body["start"] == told
            told = note.body["end"]
    try:
        untouched = os.lseek(other_memory, told, os.SEEK_DATA)
    except OSError:
        untouched = size
    assert untouched == size
    assert 0 < told <= size


def test_worker_when_killed_by_its_chunk_then_the_page_says_where(worker: RealWorker) -> None:
    worker.job(1, "selftest.crash", {"at": 7, "signal": 11})
    worker.chunk(4, 1, 0, 5)
    assert worker.done().reached == 5
    worker.chunk(5, 1, 5, 10)
    assert worker.sock.recv(FRAME_BYTES_MAX) == b""
    assert worker.process.wait() == -signal.SIGSEGV
    assert (worker.seq, worker.position) == (5, 7)


@pytest.mark.parametrize("cpu", [False, True])
def test_worker_when_it_hangs_then_only_a_kill_helps(worker: RealWorker, cpu: bool) -> None:
    worker.job(1, "selftest.hang", {"at": 3, "cpu": cpu})
    worker.chunk(1, 1, 0, 10)
    wait_until(lambda: worker.position == 3)
    worker.recall(1)
    worker.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        worker.sock.recv(FRAME_BYTES_MAX)
    worker.process.kill()
    assert worker.process.wait() == -signal.SIGKILL


def test_items_when_a_descriptor_of_them_was_lost_then_the_chunk_fails(
    worker: RealWorker, tmp_path: Path
) -> None:
    """The kernel drops descriptors that the receiver has no room for: MSG_CTRUNC."""
    (tmp_path / "file").write_bytes(b"abc")
    with (tmp_path / "file").open("rb") as file:
        row = facts_of(file.fileno()).row
        worker.job(1, "file.crc32", span=(0, 3))
        body = {"start": 0, "sids": [7, 8, 9], "new": [(sid, row) for sid in (7, 8, 9)]}
        socket.send_fds(worker.sock, [frames.pack_note(frames.ITEMS, 1, body)], [file.fileno()] * 2)
    before = len(os.listdir(f"/proc/{worker.process.pid}/fd"))
    worker.chunk(1, 1, 0, 3)
    assert "did not arrive" in worker.note(frames.FAILED).body["message"]
    assert len(os.listdir(f"/proc/{worker.process.pid}/fd")) <= before


def test_items_when_sent_before_each_chunk_then_each_has_its_own(worker: RealWorker, tmp_path: Path) -> None:
    contents = [b"a" * 10, b"", b"c" * 5000]
    worker.job(1, "file.crc32", {}, {}, (0, 3))
    for position, content in enumerate(contents):
        path = tmp_path / str(position)
        path.write_bytes(content)
        with path.open("rb") as file:
            worker.source(position + 10, file.fileno(), facts_of(file.fileno()))
    worker.items(1, 0, [10, 11])
    worker.chunk(1, 1, 0, 2)
    worker.items(1, 2, [12])
    worker.chunk(2, 1, 2, 3)
    parts = [json.loads(worker.done().part) for _ in range(2)]
    assert parts[0] == {"items": [{"crc32": zlib.crc32(c), "bytes": len(c)} for c in contents[:2]]}
    assert parts[1] == {"items": [{"crc32": zlib.crc32(contents[2]), "bytes": 5000}]}
    worker.step(3, 1, "combine", {"parts": parts})
    value = worker.note(frames.REPLY).body["value"]
    assert [item["bytes"] for item in value["items"]] == [10, 0, 5000]
