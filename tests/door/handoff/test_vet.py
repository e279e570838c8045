"""Which descriptors pass and which are refused, with real ones of every kind."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ktaskd.door.handoff.vet import vet
from ktaskd.host.files import mounts
from ktaskd.model.errors import FdUnsuitable
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_SHRINK, F_SEAL_WRITE, SourceFacts, SourceKind


@contextmanager
def opened(path: str | Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def memfd(size: int = 0, seals: int = 0, flags: int = os.MFD_ALLOW_SEALING) -> Iterator[int]:
    fd = os.memfd_create("test", flags | os.MFD_CLOEXEC)
    try:
        os.truncate(fd, size)
        if seals:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        yield fd
    finally:
        os.close(fd)


def facts_of(fd: int) -> SourceFacts:
    return vet(fd, own_offset=False)


def refusal_of(fd: int) -> str:
    with pytest.raises(FdUnsuitable) as caught:
        vet(fd, own_offset=False, what="descriptor 3")
    assert caught.value.message.startswith("descriptor 3: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("flags", "access"),
    [(os.O_RDONLY, Access.READ), (os.O_WRONLY, Access.WRITE), (os.O_RDWR, Access.READ_WRITE)],
)
def test_a_regular_file_passes_with_the_access_it_was_opened_for(
    tmp_path: Path, flags: int, access: Access
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with opened(tmp_path / "file", flags) as fd:
        facts = facts_of(fd)
        status = os.fstat(fd)
    assert facts.access is access
    assert (facts.size, facts.append, facts.seals) == (5, False, 0)
    assert (facts.device, facts.inode) == (status.st_dev, status.st_ino)
    assert facts.page_size == os.sysconf("SC_PAGE_SIZE")


def test_append_is_recorded(tmp_path: Path) -> None:
    with opened(tmp_path / "file", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
        assert facts_of(fd).append


@pytest.mark.parametrize("promised", [False, True])
def test_the_promise_of_the_offset_is_passed_on(promised: bool) -> None:
    with memfd() as fd:
        assert vet(fd, own_offset=promised).own_offset is promised


@pytest.mark.parametrize("seals", [0, F_SEAL_SHRINK, F_SEAL_SHRINK | 0x4])
def test_memory_passes_with_its_seals(seals: int) -> None:
    with memfd(8192, seals) as fd:
        facts = facts_of(fd)
    assert (facts.kind, facts.seals, facts.size) == (SourceKind.MEMORY, seals, 8192)
    assert facts.access is Access.READ_WRITE
    assert facts.mappable is bool(seals)


def test_memory_that_cannot_be_sealed_says_so() -> None:
    with memfd(flags=0) as fd:
        assert facts_of(fd).seals == fcntl.F_SEAL_SEAL


@pytest.mark.parametrize("seal", [F_SEAL_WRITE, F_SEAL_FUTURE_WRITE])
def test_memory_sealed_against_writing_is_read_only(seal: int) -> None:
    with memfd(10, seal) as fd:
        assert facts_of(fd).access is Access.READ


def test_memory_that_may_neither_be_read_nor_written_is_refused() -> None:
    with memfd() as fd, opened(f"/proc/self/fd/{fd}", os.O_WRONLY) as write_only:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, F_SEAL_WRITE)
        assert "sealed against writing" in refusal_of(write_only)


def test_huge_pages_are_known_by_their_size() -> None:
    try:
        fd = os.memfd_create("huge", os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    except OSError as error:
        pytest.skip(f"no hugetlbfs here: {error}")
    try:
        facts = facts_of(fd)
    finally:
        os.close(fd)
    assert facts.kind is SourceKind.HUGE
    assert facts.file_system == "hugetlbfs"
    assert facts.page_size > os.sysconf("SC_PAGE_SIZE")


def test_a_file_on_tmpfs_is_memory() -> None:
    path = Path(f"/dev/shm/ktaskd-test-{os.getpid()}")
    try:
        with opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            facts = facts_of(fd)
    finally:
        path.unlink()
    assert (facts.kind, facts.file_system) == (SourceKind.MEMORY, "tmpfs")
    assert not facts.mappable


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/proc/self/status", 'is on "proc"'),
        ("/proc/self", 'is on "proc"'),
        ("/sys/kernel/mm/transparent_hugepage/enabled", 'is on "sysfs"'),
        ("/sys", 'is on "sysfs"'),
        ("/dev/null", "is a character device"),
        ("/", "is a directory"),
    ],
)
def test_what_is_no_plain_file_is_refused(path: str, says: str) -> None:
    with opened(path) as fd:
        assert says in refusal_of(fd)


def test_a_file_of_a_cgroup_is_refused() -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for _, point, kind, *_ in mounts:
        if kind.startswith("cgroup"):
            with opened(f"{point}/cgroup.procs") as fd:
                assert f'is on "{kind}"' in refusal_of(fd)
            return
    pytest.skip("no cgroup file system is mounted here")


def test_sockets_pipes_and_kernel_objects_are_refused(tmp_path: Path) -> None:
    ends = os.pipe()
    event = os.eventfd(0)
    left, right = socket.socketpair()
    os.mkfifo(tmp_path / "fifo")
    try:
        with left, right, opened(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK) as fifo:
            assert "is a socket" in refusal_of(left.fileno())
            assert "is a pipe" in refusal_of(ends[0])
            assert "is a pipe" in refusal_of(fifo)
            assert "kernel object" in refusal_of(event)
    finally:
        for fd in (*ends, event):
            os.close(fd)


def test_a_path_that_is_not_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with opened(tmp_path / "file", os.O_PATH) as fd:
        assert "O_PATH" in refusal_of(fd)


def test_a_closed_descriptor_is_refused() -> None:
    ends = os.pipe()
    for fd in ends:
        os.close(fd)
    assert "cannot be examined" in refusal_of(ends[0])


@pytest.mark.parametrize("path", ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_nothing_that_might_block_is_asked_before_the_file_system_is_known(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(fd: int) -> None:
        raise AssertionError("asked the file")

    with opened(path) as fd, monkeypatch.context() as patch:
        patch.setattr(os, "fstat", forbidden)
        patch.setattr(os, "fstatvfs", forbidden)
        refusal_of(fd)


def test_what_a_file_is_on_comes_from_the_file_where_no_table_has_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with opened(tmp_path / "file") as fd:
        by_table = facts_of(fd)
        monkeypatch.setattr(mounts, "TABLES", ())
        if not mounts.read_standing(fd).local:
            pytest.skip(f"{by_table.file_system} at {tmp_path} proves nothing by itself")
        assert replace(facts_of(fd), file_system=by_table.file_system) == by_table


@pytest.mark.parametrize("path", ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"])
def test_a_file_of_the_kernel_is_refused_where_no_table_has_its_mount(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "TABLES", ())
    with opened(path) as fd:
        assert "not local" in refusal_of(fd)
