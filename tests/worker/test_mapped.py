"""Mappings outlive a job and not an idle time, within bounds, and never too long.

Tests: ktaskd/worker/mapped.py
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.memory.pagetables import read_page_tables
from ktaskd.host.root import HostRoot
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from ktaskd.worker.codec import facts_to_json
from ktaskd.worker.loop import Worker
from ktaskd.worker.mapped import COUNT_MAX, IDLE_S, LOOK_S, SPAN_FREE, TABLES_MAX, Mapped
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker, wait_until
from tests.worker.test_sources import sealed_memory

SIZE = 1 << 20


class Region:
    """A source that records whether it is mapped."""

    def __init__(self, size: int = SIZE, *, memory: bool = True) -> None:
        self.mapped_bytes = size
        self.outlives_jobs = memory

    def unmap(self) -> None:
        self.mapped_bytes = 0


def host(place: Path, available: int = 90) -> HostRoot:
    (place / "proc").mkdir()
    (place / "proc/meminfo").write_text(f"MemTotal: 100 kB\nMemAvailable: {available} kB\n")
    return HostRoot(place)


def kept(
    root: HostRoot,
    *used: Region,
    tables: Callable[[], int] = lambda: 0,
    clock: Callable[[], float] = lambda: 1.0,
) -> Mapped:
    """The books of a worker whose jobs have used these regions, in this order."""
    books = Mapped(root, clock, tables)
    for region in used:
        books.use(region)
    return books


def test_trim_when_within_all_bounds_then_memory_stays_mapped_and_a_file_does_not(tmp_path: Path) -> None:
    region, file = Region(), Region(memory=False)
    kept(host(tmp_path), region, file).trim([])
    assert (region.mapped_bytes, file.mapped_bytes) == (SIZE, 0)


def test_trim_when_another_job_uses_a_file_then_it_stays_mapped_for_that_job(tmp_path: Path) -> None:
    file = Region(memory=False)
    books = kept(host(tmp_path), file)
    books.trim([file])
    assert file.mapped_bytes
    books.trim([])
    assert not file.mapped_bytes


def test_trim_when_there_are_too_many_then_those_used_longest_ago_go(tmp_path: Path) -> None:
    regions = [Region() for _ in range(COUNT_MAX + 2)]
    books = kept(host(tmp_path), *regions)
    books.use(regions[0])
    books.trim([])
    assert [i for i, region in enumerate(regions) if not region.mapped_bytes] == [1, 2]


def test_trim_when_page_tables_take_too_much_then_unmapped_until_they_do_not(tmp_path: Path) -> None:
    regions = [Region(SPAN_FREE // 2) for _ in range(4)]
    tables = lambda: TABLES_MAX // 2 * sum(bool(one.mapped_bytes) for one in regions)  # noqa: E731
    kept(host(tmp_path), *regions, tables=tables).trim([])
    assert [bool(region.mapped_bytes) for region in regions] == [False, False, True, True]


def test_trim_when_little_of_a_large_region_was_touched_then_it_stays(tmp_path: Path) -> None:
    region = Region(SPAN_FREE * 8)
    kept(host(tmp_path), region, tables=lambda: TABLES_MAX).trim([])
    assert region.mapped_bytes


def test_trim_when_the_machine_is_short_of_memory_then_only_what_jobs_use_stays(tmp_path: Path) -> None:
    idle, busy = Region(), Region()
    kept(host(tmp_path, available=6), idle, busy).trim([busy])
    assert (idle.mapped_bytes, busy.mapped_bytes) == (0, SIZE)


def test_trim_when_asked_again_at_once_then_the_memory_is_not_read_again(tmp_path: Path) -> None:
    root, now_s, region = host(tmp_path), [1.0], Region()
    books = kept(root, region, clock=lambda: now_s[0])
    books.trim([])
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 1 kB\n")
    books.trim([])
    assert region.mapped_bytes
    now_s[0] += LOOK_S
    books.trim([])
    assert not region.mapped_bytes


def test_rest_when_a_job_still_uses_a_source_then_unmapped_but_remembered(tmp_path: Path) -> None:
    idle, busy = Region(), Region()
    books = kept(host(tmp_path), idle, busy)
    books.rest([busy])
    assert (idle.mapped_bytes, busy.mapped_bytes) == (0, 0)
    assert books
    books.trim([])
    assert not books


def test_forget_when_the_source_is_closed_then_it_is_not_touched_any_more(tmp_path: Path) -> None:
    region = Region()
    books = kept(host(tmp_path), region)
    books.forget(region)
    books.rest([])
    assert region.mapped_bytes
    assert not books


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=400))
def test_trim_when_after_any_uses_then_at_most_the_bound_stays(uses: list[tuple[int, bool]]) -> None:
    regions = [Region(0) for _ in range(301)]
    books = Mapped(HostRoot(Path("/nowhere")), lambda: 1.0, lambda: 0)
    for i, ends in uses:
        regions[i].mapped_bytes = SIZE
        books.use(regions[i])
        if ends:
            books.trim([])
            assert sum(bool(region.mapped_bytes) for region in regions) <= COUNT_MAX
    books.trim([])
    assert sum(bool(region.mapped_bytes) for region in regions) == min(len({i for i, _ in uses}), COUNT_MAX)


def test_page_tables_when_pages_are_touched_then_more() -> None:
    before = read_page_tables()
    with mmap.mmap(-1, 64 << 20) as region:
        for start in range(0, len(region), 4096):
            region[start] = 1
        assert read_page_tables() > before


# -- a real worker ------------------------------------------------------------------------


@pytest.fixture
def region() -> Iterator[int]:
    fd = sealed_memory(SIZE)
    os.pwrite(fd, bytes(range(256)) * (SIZE // 256), 0)
    yield fd
    os.close(fd)


def maps(pid: int | str) -> int:
    """How many mappings of the region a process has."""
    return Path(f"/proc/{pid}/maps").read_text().count("/memfd:sealed")


def job(jno: int, function: str = "file.crc32") -> bytes:
    body = {"function": function, "arg": {}, "sources": {"data": 1}, "span": (0, SIZE), "whole": True}
    return frames.pack_note(frames.JOB, jno, body)


def test_worker_when_a_job_has_ended_then_the_next_one_finds_its_memory_mapped(
    worker: RealWorker, region: int
) -> None:
    worker.source(1, region, facts_of(region))
    for jno in (1, 2):
        chunk = frames.pack_chunk(jno, jno, 0, SIZE)
        worker.sock.send(frames.pack_batch([frames.pack_note(frames.FORGET_JOB, jno - 1), job(jno), chunk]))
        worker.done()
        assert maps(worker.process.pid) == 1
    worker.sock.send(frames.pack_note(frames.FORGET_JOB, 2))
    worker.sock.send(frames.pack_note(frames.FORGET_SOURCE, 1))
    wait_until(lambda: not maps(worker.process.pid))


def test_worker_when_idle_for_a_while_then_nothing_is_mapped_and_no_timer_is_left(region: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    slot = memoryview(bytearray(frames.SLOT_BYTES)).cast("Q")
    with ours, theirs:
        served = Thread(target=Worker(theirs, slot).serve)
        served.start()
        body = {"facts": facts_to_json(facts_of(region))}
        socket.send_fds(ours, [frames.pack_note(frames.SOURCE, 1, body)], [region])
        ours.send(frames.pack_batch([job(1), frames.pack_chunk(1, 1, 0, SIZE)]))
        crc = frames.unpack_done(ours.recv(FRAME_BYTES_MAX))
        wait_until(lambda: patience(theirs) == IDLE_S)
        assert maps("self") == 1
        set_patience(theirs, 0.001)
        ours.send(frames.pack_note(frames.NUDGE, 0))  # the limit counts from the next frame on
        wait_until(lambda: patience(theirs) == 0)
        assert maps("self") == 0
        ours.send(frames.pack_chunk(2, 1, 0, SIZE))
        assert frames.unpack_done(ours.recv(FRAME_BYTES_MAX)).part == crc.part
        ours.send(frames.pack_note(frames.FORGET_SOURCE, 1))
        ours.shutdown(socket.SHUT_RDWR)
        served.join()


TIMEVAL = struct.Struct("@ll")


def patience(sock: socket.socket) -> float:
    seconds, micros = TIMEVAL.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.size))
    return float(seconds + micros / 1e6)


def set_patience(sock: socket.socket, seconds: float) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEVAL.pack(0, int(seconds * 1e6)))
