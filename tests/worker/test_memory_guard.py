"""A chunk that writes memory stops before the machine runs out of it."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.root import HostRoot
from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.worker import frames
from ktaskd.worker.control import ChunkControl
from ktaskd.worker.memory_guard import LEFT_PARTS, LOOK_S, RoomGuard, guard_of
from ktaskd.worker.sources import Source

TOTAL_KIB = 64 * 1024


def machine(top: Path, available_kib: int) -> HostRoot:
    (top / "proc").mkdir(exist_ok=True)
    text = f"MemTotal: {TOTAL_KIB} kB\nMemFree: 1 kB\nMemAvailable: {available_kib} kB\n"
    (top / "proc" / "meminfo").write_text(text)
    return HostRoot(top)


def test_quantum_when_memory_runs_out_then_an_errno_and_the_position_is_known(tmp_path: Path) -> None:
    now = [0.0]
    words = memoryview(bytearray(frames.SLOT_BYTES)).cast("Q")
    control = ChunkControl(words, lambda _: None)
    control.begin(1)
    control.room = RoomGuard("data", machine(tmp_path, TOTAL_KIB // LEFT_PARTS), lambda: now[0])
    assert not control.quantum(10)
    machine(tmp_path, TOTAL_KIB // LEFT_PARTS - 1)
    assert not control.quantum(20)  # the next look is not due yet
    now[0] += LOOK_S
    with pytest.raises(
        OSError, match=r'source "data": this machine has only 1047552 bytes of memory available'
    ) as caught:
        control.quantum(30)
    assert caught.value.errno == errno.ENOMEM
    assert words[frames.SLOT_POSITION] == 30


def test_guard_when_the_machine_does_not_say_then_nothing_is_stopped(tmp_path: Path) -> None:
    RoomGuard("data", HostRoot(tmp_path)).check()


def source(kind: SourceKind) -> Source:
    fd = os.memfd_create("t")
    return Source(fd, SourceFacts(kind, Access.READ_WRITE, False, 0, 0, mmap.PAGESIZE, 1, 1, "tmpfs", True))


def test_guard_when_nothing_in_memory_is_written_then_there_is_none() -> None:
    memory, file = source(SourceKind.MEMORY), source(SourceKind.FILE)
    try:
        for name, sources, guarded in (
            ("mem.fill", {"data": memory}, True),
            ("mem.fill", {"data": file}, False),
            ("file.crc32", {"data": memory}, False),
            ("file.copy", {"src": file, "dst": memory}, True),
            ("file.copy", {"src": memory, "dst": file}, False),
            ("file.decompress", {"src": file, "dst": memory}, True),
        ):
            assert (guard_of(CATALOGUE[name], sources, HostRoot()) is not None) is guarded, name
    finally:
        memory.close()
        file.close()
