"""A real worker keeps the protocol."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, Note
from tests.worker.real_worker import REPOSITORY, RealWorker, facts_of, ready, started, wait_until

MIB = 1 << 20


@pytest.fixture
def rig() -> Iterator[RealWorker]:
    with ready() as worker:
        yield worker


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def other_memory() -> Iterator[int]:
    fd = os.memfd_create("other")
    try:
        yield fd
    finally:
        os.close(fd)


def test_chunk_when_processed_then_done_and_the_page_says_which(rig: RealWorker) -> None:
    rig.job(1, "selftest.noop")
    rig.chunk(7, 1, 20, 30)
    done = rig.done()
    assert (done.seq, done.reached, done.part) == (7, 30, b"")
    assert (rig.seq, rig.position) == (7, 20)


def policies_of(pid: int) -> set[str]:
    return {line.split()[1] for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines()}


def test_chunk_when_it_names_a_node_then_new_pages_come_from_there(rig: RealWorker) -> None:
    """Whoever runs it: a lead is of no node."""
    if not Path(f"/proc/{rig.process.pid}/numa_maps").exists():
        return
    rig.job(1, "selftest.noop")
    before = policies_of(rig.process.pid)
    rig.chunk(1, 1, 0, 1, nid=0)
    rig.done()
    assert policies_of(rig.process.pid) == {"prefer:0"} or before == {"default"} == policies_of(
        rig.process.pid
    )
    rig.chunk(2, 1, 1, 2)
    rig.done()
    assert policies_of(rig.process.pid) == before


def test_chunk_when_cpu_was_burnt_then_done_says_how_much(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 2.0})
    rig.chunk(1, 1, 0, 5)
    assert rig.done().cpu_ns >= 10_000_000
    assert rig.beats >= 5


def test_chunk_when_argument_not_given_then_default(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin")
    rig.chunk(1, 1, 0, 3)
    assert rig.done().cpu_ns >= 3_000_000


def test_chunk_when_recalled_before_begun_then_given_back_whole(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 1000.0})
    rig.recall(3)
    rig.chunk(3, 1, 10, 20)
    assert rig.done() == Done(3, 10, 0, b"")


def test_chunk_when_recalled_in_the_middle_then_rest_given_back(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 5.0})
    rig.chunk(3, 1, 10, 1_000_000)
    wait_until(lambda: rig.seq == 3 and rig.position > 11)
    rig.recall(3)
    done = rig.done()
    assert 11 < done.reached < 1_000_000
    assert done.reached == rig.position


def test_chunk_when_recalled_inside_one_position_then_that_one_is_given_back(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 3_000_000.0})
    rig.chunk(3, 1, 10, 20)
    wait_until(lambda: rig.beats > 3)
    rig.recall(3)
    assert rig.done().reached == 10


def test_two_queued_chunks_when_both_recalled_then_second_not_begun(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 1.0})
    rig.chunk(1, 1, 0, 1_000_000)
    rig.chunk(2, 1, 1_000_000, 2_000_000)
    wait_until(lambda: rig.position > 2)
    rig.recall(2)
    first, second = rig.done(), rig.done()
    assert (first.seq, second.seq) == (1, 2)
    assert 2 < first.reached < 1_000_000
    assert second == Done(2, 1_000_000, 0, b"")


def test_two_queued_chunks_when_first_recalled_then_second_is_processed(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 1.0})
    rig.chunk(1, 1, 0, 1_000_000)
    rig.chunk(2, 1, 1_000_000, 1_000_003)
    wait_until(lambda: rig.position > 2)
    rig.recall(1)
    assert rig.done().reached < 1_000_000
    assert rig.done().reached == 1_000_003


def test_chunk_when_function_fails_then_failed_says_all(rig: RealWorker) -> None:
    rig.job(1, "selftest.fail", {"at": 5, "errno": 28})
    rig.chunk(1, 1, 0, 10)
    failed = rig.note(frames.FAILED)
    assert failed.number == 1
    assert (failed.body["errno"], failed.body["reached"], failed.body["dirty"]) == (28, 5, [])
    assert "position 5" in failed.body["message"]
    assert failed.body["exception"].startswith("OSError: [Errno 28]")
    rig.chunk(2, 1, 6, 10)
    assert rig.done().reached == 10


def test_chunk_when_job_is_not_known_then_failed(rig: RealWorker) -> None:
    rig.chunk(1, 9, 0, 10)
    assert "was not told of it" in rig.note(frames.FAILED).body["message"]


def test_chunk_when_function_has_no_body_then_failed(rig: RealWorker) -> None:
    rig.job(1, "no.such")
    rig.chunk(1, 1, 0, 10)
    assert "'no.such'" in rig.note(frames.FAILED).body["message"]


def test_chunk_when_it_fails_then_the_worker_undoes_what_was_done(rig: RealWorker, memory: int) -> None:
    os.ftruncate(memory, 20)
    rig.source(1, memory, facts_of(memory))
    rig.job(1, "selftest.undo_log", {"fail_at": 7}, {"data": 1})
    rig.chunk(1, 1, 2, 12)
    failed = rig.note(frames.FAILED)
    assert (failed.body["reached"], failed.body["dirty"]) == (7, [])
    assert os.pread(memory, 20, 0) == bytes([0] * 2 + [17] * 5 + [0] * 13)
    # The page still says how far the chunk came, not how far its undo did.
    assert rig.position == 7


def test_chunk_when_it_fails_before_it_changed_a_byte_then_nothing_is_dirty(
    rig: RealWorker, memory: int
) -> None:
    os.ftruncate(memory, 64 * MIB)
    rig.source(1, memory, facts_of(memory))
    rig.job(1, "mem.fill", {"value": 300}, {"data": 1})
    rig.chunk(1, 1, 5 * MIB, 60 * MIB)
    failed = rig.note(frames.FAILED)
    assert failed.body["dirty"] == []
    assert "ValueError" in failed.body["exception"]


def test_copy_when_it_fails_then_holes_are_back_and_the_rest_is_dirty(
    rig: RealWorker, memory: int, other_memory: int
) -> None:
    os.pwrite(memory, b"s" * (4 * MIB), 0)
    os.ftruncate(other_memory, 6 * MIB)
    os.pwrite(other_memory, b"d" * MIB, MIB)
    rig.source(1, memory, facts_of(memory))
    rig.source(2, other_memory, facts_of(other_memory, own_offset=True))
    rig.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, 6 * MIB))
    rig.chunk(1, 1, 0, 6 * MIB)
    priors = [rig.note(frames.PRIOR), rig.note(frames.PRIOR)]
    assert [note.body for note in priors] == [
        {"start": 0, "end": 2 * MIB, "holes": [[0, MIB]]},
        {"start": 2 * MIB, "end": 4 * MIB, "holes": [[2 * MIB, 4 * MIB]]},
    ]
    failed = rig.note(frames.FAILED)
    assert failed.body["dirty"] == [[MIB, 2 * MIB]]
    assert "truncated" in failed.body["message"]
    assert os.lseek(other_memory, 0, os.SEEK_DATA) == MIB
    assert os.lseek(other_memory, MIB, os.SEEK_HOLE) == 2 * MIB


def test_copy_when_killed_in_the_middle_then_all_it_changed_was_told_before(
    memory: int, other_memory: int
) -> None:
    size = 128 * MIB
    for position in range(0, size, MIB):
        os.pwrite(memory, b"s" * MIB, position)
    os.ftruncate(other_memory, size)
    with ready() as rig:
        rig.source(1, memory, facts_of(memory))
        rig.source(2, other_memory, facts_of(other_memory, own_offset=True))
        rig.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, size))
        rig.chunk(1, 1, 0, size)
        first = rig.note(frames.PRIOR)
        rig.process.kill()
        rig.process.wait()
        assert rig.seq == 1
        told = first.body["end"]
        while frame := rig.sock.recv(FRAME_BYTES_MAX):
            note = frames.unpack_from_worker(frame)
            assert isinstance(note, Note)
            assert note.body["start"] == told
            told = note.body["end"]
    try:
        untouched = os.lseek(other_memory, told, os.SEEK_DATA)
    except OSError:
        untouched = size
    assert untouched == size
    assert 0 < told <= size


def test_worker_when_killed_by_its_chunk_then_the_page_says_where(rig: RealWorker) -> None:
    rig.job(1, "selftest.crash", {"at": 7, "signal": 11})
    rig.chunk(4, 1, 0, 5)
    assert rig.done().reached == 5
    rig.chunk(5, 1, 5, 10)
    assert rig.sock.recv(FRAME_BYTES_MAX) == b""
    assert rig.process.wait() == -signal.SIGSEGV
    assert (rig.seq, rig.position) == (5, 7)


@pytest.mark.parametrize("cpu", [False, True])
def test_worker_when_it_hangs_then_only_a_kill_helps(rig: RealWorker, cpu: bool) -> None:
    rig.job(1, "selftest.hang", {"at": 3, "cpu": cpu})
    rig.chunk(1, 1, 0, 10)
    wait_until(lambda: rig.position == 3)
    rig.recall(1)
    rig.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        rig.sock.recv(FRAME_BYTES_MAX)
    rig.process.kill()
    assert rig.process.wait() == -signal.SIGKILL


def test_worker_when_the_daemon_closes_then_it_ends(rig: RealWorker) -> None:
    rig.sock.close()
    assert rig.process.wait() == 0


def test_worker_when_the_daemon_closes_during_a_chunk_then_it_ends(rig: RealWorker) -> None:
    rig.job(1, "selftest.spin", {"ms": 1.0})
    rig.chunk(1, 1, 0, 1_000_000)
    wait_until(lambda: rig.position > 0)
    rig.sock.close()
    rig.recall(1)
    assert rig.process.wait() == 0


def test_worker_when_the_frame_is_none_then_it_ends_with_70(rig: RealWorker) -> None:
    rig.sock.send(b"\x63nonsense")
    assert rig.process.wait() == 70


def test_worker_when_interrupted_then_it_goes_on(rig: RealWorker) -> None:
    rig.process.send_signal(signal.SIGINT)
    rig.job(1, "selftest.noop")
    rig.chunk(1, 1, 0, 1)
    assert rig.done().reached == 1
    rig.process.terminate()
    assert rig.process.wait() == -signal.SIGTERM


def test_source_when_forgotten_then_closed_and_unmapped(rig: RealWorker, memory: int) -> None:
    import fcntl

    os.ftruncate(memory, MIB)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    rig.job(9, "selftest.noop")
    rig.chunk(1, 9, 0, 1)
    rig.done()
    before = rig.fds()
    rig.source(5, memory, facts_of(memory))
    rig.job(1, "mem.fill", {"value": 3}, {"data": 5}, (0, MIB))
    rig.chunk(2, 1, 0, MIB)
    assert rig.done().reached == MIB
    held = rig.fds() - before
    assert held
    for entry in held:
        flags = Path(f"/proc/{rig.process.pid}/fdinfo/{entry.split()[0]}").read_text()
        assert int(flags.split("flags:")[1].split()[0], 8) & os.O_CLOEXEC
    assert "/memfd:memory" in Path(f"/proc/{rig.process.pid}/maps").read_text()
    rig.sock.send(frames.pack_note(frames.FORGET_JOB, 1))
    rig.sock.send(frames.pack_note(frames.FORGET_SOURCE, 5))
    rig.chunk(3, 9, 0, 1)
    rig.done()
    assert rig.fds() == before
    assert "/memfd:memory" not in Path(f"/proc/{rig.process.pid}/maps").read_text()
    assert os.pread(memory, MIB, 0) == b"\3" * MIB
    rig.chunk(4, 1, 0, MIB)
    assert "not told" in rig.note(frames.FAILED).body["message"]


def test_source_when_its_number_is_used_again_then_the_first_is_closed(
    rig: RealWorker, memory: int, other_memory: int
) -> None:
    before = len(rig.fds())
    rig.source(5, memory, facts_of(memory))
    rig.source(5, other_memory, facts_of(other_memory))
    rig.job(1, "selftest.noop")
    rig.chunk(1, 1, 0, 1)
    rig.done()
    assert len(rig.fds()) == before + 1


@pytest.mark.parametrize("count", [0, 2])
def test_source_when_not_exactly_one_descriptor_came_then_its_jobs_fail(
    rig: RealWorker, memory: int, count: int
) -> None:
    from ktaskd.worker.codec import facts_to_json

    before = len(rig.fds())
    frame = frames.pack_note(frames.SOURCE, 5, {"facts": facts_to_json(facts_of(memory))})
    socket.send_fds(rig.sock, [frame], [memory] * count)
    rig.job(1, "mem.fill", {}, {"data": 5})
    rig.chunk(1, 1, 0, 1)
    assert "did not arrive" in rig.note(frames.FAILED).body["message"]
    assert len(rig.fds()) == before


def test_items_when_sent_before_each_chunk_then_each_has_its_own(rig: RealWorker, tmp_path: Path) -> None:
    contents = [b"a" * 10, b"", b"c" * 5000]
    rig.job(1, "file.crc32", {}, {}, (0, 3))
    for position, content in enumerate(contents):
        path = tmp_path / str(position)
        path.write_bytes(content)
        with path.open("rb") as file:
            rig.source(position + 10, file.fileno(), facts_of(file.fileno()))
    rig.items(1, {0: 10, 1: 11})
    rig.chunk(1, 1, 0, 2)
    rig.items(1, {2: 12})
    rig.chunk(2, 1, 2, 3)
    parts = [json.loads(rig.done().part) for _ in range(2)]
    assert parts[0] == {"items": [{"crc32": zlib.crc32(c), "bytes": len(c)} for c in contents[:2]]}
    assert parts[1] == {"items": [{"crc32": zlib.crc32(contents[2]), "bytes": 5000}]}
    rig.call(3, 1, "combine", {"parts": parts})
    value = rig.note(frames.REPLY).body["value"]
    assert [item["bytes"] for item in value["items"]] == [10, 0, 5000]


def test_call_when_undo_then_progress_is_published_and_nothing_stops_it(rig: RealWorker, memory: int) -> None:
    os.ftruncate(memory, 20)
    rig.source(1, memory, facts_of(memory))
    rig.job(1, "selftest.undo_log", {}, {"data": 1})
    rig.recall(1000)
    rig.call(8, 1, "undo", {"start": 3, "end": 9, "holes": []})
    reply = rig.note(frames.REPLY)
    assert (reply.number, reply.body["value"]) == (8, {"kept": []})
    assert os.pread(memory, 20, 0) == bytes([0] * 3 + [16] * 6 + [0] * 11)
    assert (rig.seq, rig.position) == (8, 9)


def test_call_when_undo_fails_then_its_span_is_dirty(rig: RealWorker, memory: int) -> None:
    rig.source(1, memory, facts_of(memory))
    rig.job(1, "selftest.undo_log", {}, {"data": 1})
    rig.call(8, 1, "undo", {"start": 3, "end": 9, "holes": []})
    assert rig.note(frames.FAILED).body["dirty"] == [[3, 9]]


def test_call_when_the_answer_is_too_large_then_failed(rig: RealWorker) -> None:
    rig.job(1, "file.crc32")
    items = [{"crc32": 1, "bytes": 1}] * 2800
    body = {"jno": 1, "op": "combine", "payload": {"parts": [{"items": items}]}}
    text = json.dumps(body, separators=(",", ":")).encode()
    assert 60_000 < len(text) < FRAME_BYTES_MAX - 9
    rig.sock.send(frames.pack_note(frames.CALL, 1) + text)
    assert "wanted at most" in rig.note(frames.FAILED).body["message"]


def test_call_when_op_is_not_known_then_failed(rig: RealWorker) -> None:
    rig.job(1, "selftest.noop")
    rig.call(1, 1, "explode")
    assert "explode" in rig.note(frames.FAILED).body["message"]


def test_call_when_copy_is_prepared_then_finished_or_restored(
    rig: RealWorker, memory: int, other_memory: int
) -> None:
    os.ftruncate(memory, 100)
    os.ftruncate(other_memory, 40)
    rig.source(1, memory, facts_of(memory))
    rig.source(2, other_memory, facts_of(other_memory))
    rig.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, 100), whole=True)
    rig.call(1, 1, "prepare")
    planned = rig.note(frames.PLANNED)
    prepared = rig.note(frames.REPLY).body["value"]
    assert (planned.number, planned.body) == (1, {"value": prepared})
    assert os.fstat(other_memory).st_size == 100
    rig.call(2, 1, "finish", {"prepared": prepared})
    assert rig.note(frames.REPLY).body["value"] == {}
    rig.call(3, 1, "restore", {"prepared": prepared})
    assert rig.note(frames.REPLY).number == 3
    assert os.fstat(other_memory).st_size == 40


def test_worker_when_its_parent_is_killed_then_it_dies() -> None:
    """A parent between us and the worker, as the pool host is."""
    code = (
        "import mmap, os, socket, sys, signal\n"
        "from ktaskd.model.worker import Placement, WorkerClass\n"
        "from ktaskd.worker import life\n"
        "sock = socket.socket(fileno=int(sys.argv[1]))\n"
        "if os.fork() == 0:\n"
        "    life.run(sock, memoryview(mmap.mmap(-1, 4096)), Placement(WorkerClass.HELPER))\n"
        "sock.close()\n"
        "signal.pause()\n"
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with ours:
        with theirs:
            parent = subprocess.Popen(
                [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=REPOSITORY
            )
        assert ours.recv(FRAME_BYTES_MAX)[0] == frames.READY
        parent.kill()
        parent.wait()
        assert ours.recv(FRAME_BYTES_MAX) == b""


def test_modules_when_all_bodies_are_loaded_then_no_grpc_and_no_asyncio() -> None:
    code = (
        "import sys\n"
        "from ktaskd.functions import bodies\n"
        "from ktaskd.worker import life\n"
        "bodies.load_all()\n"
        "wrong = {'grpc', 'asyncio', 'google', 'ktask.link.session'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {wrong}' if wrong else 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_ready_when_setup_is_done_then_it_comes_first() -> None:
    with started({"worker_class": "helper"}) as rig:
        assert rig.note(frames.READY).number == 0
