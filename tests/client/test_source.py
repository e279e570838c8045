"""Memory, files and other sources."""

from __future__ import annotations

import fcntl
import gc
import os
import stat
from pathlib import Path

import ktask
import numpy as np
import pytest
from ktask.link.made import MadeFiles
from ktask.source import check_source, is_memory
from ktask.v1 import jobs_pb2 as pb


def test_memory_when_made_then_exactly_so_large_sealed_and_mapped() -> None:
    with ktask.memory(10_001, name="mine") as m:
        assert len(m) == os.fstat(m.fd).st_size == 10_001
        seals = fcntl.fcntl(m.fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK
        assert seals & fcntl.F_SEAL_GROW
        assert not seals & (fcntl.F_SEAL_SEAL | fcntl.F_SEAL_WRITE)
        assert "mine" in os.readlink(f"/proc/self/fd/{m.fileno()}")
        with pytest.raises(PermissionError):
            os.ftruncate(m.fd, 5)
        os.pwrite(m.fd, b"seen", 9_000)
        assert m[9_000:9_004] == b"seen"


def test_memory_when_viewed_then_without_a_copy() -> None:
    with ktask.memory(64) as m:
        array = np.frombuffer(m, dtype=np.uint8)
        view = memoryview(m)
        m[3] = 7
        assert array[3] == view[3] == 7
        array[4] = 9
        assert m[4] == 9
        with pytest.raises(BufferError):
            m.close()
        assert m.fileno() == m.fd
        del array
        view.release()


def test_memory_when_closed_then_its_descriptor_is_too() -> None:
    m = ktask.memory(1)
    fd = m.fd
    m.close()
    m.close()
    with pytest.raises(OSError):
        os.fstat(fd)
    with pytest.raises(ValueError, match="closed"):
        m.fileno()
    assert "closed" in repr(m)


@pytest.mark.slow
def test_memory_when_gone_then_its_descriptor_is_too() -> None:
    m = ktask.memory(1)
    fd = m.fd
    del m
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("nbytes", "name", "error"),
    [
        (0, "x", ValueError),
        (-1, "x", ValueError),
        (1.5, "x", TypeError),
        (True, "x", TypeError),
        (1, "x" * 250, ValueError),
        (1, "a\0b", ValueError),
    ],
)
def test_memory_when_wrong_then_an_error(nbytes: int, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ktask.memory(nbytes, name=name)


def test_memory_when_larger_than_any_then_an_error_and_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises((OSError, OverflowError)):
        ktask.memory(2**70)
    with pytest.raises((OSError, OverflowError, ValueError)):
        ktask.memory(2**62)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_file_when_read_then_not_made_and_only_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileNotFoundError):
        ktask.file(path)
    path.write_bytes(b"abc")
    with ktask.file(path, "r") as f:
        assert f.size == 3
        assert fcntl.fcntl(f.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        assert not os.get_inheritable(f.fd)
        fd = f.fd
    assert f.closed
    with pytest.raises(OSError):
        os.fstat(fd)
    with pytest.raises(ValueError, match="closed"):
        _ = f.size


def test_file_when_written_then_made_under_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        with ktask.file(str(path), "rw") as f:
            assert fcntl.fcntl(f.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
            assert f.size == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_file_when_its_name_is_no_text_then_opened(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    with ktask.file(path, "rw") as f:
        assert os.fsencode(f.path) == path


def test_file_when_no_regular_file_then_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match='pipe": got a pipe, wanted a regular file'):
        ktask.file(tmp_path / "pipe")
    with pytest.raises(ValueError, match="got a directory"):
        ktask.file(tmp_path)
    with pytest.raises(ValueError, match="character device"):
        ktask.file("/dev/null", "rw")
    with pytest.raises(ValueError, match='wanted "r" or "rw"'):
        ktask.file(tmp_path, "w")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("access", "mode"),
    [
        (pb.ACCESS_WRITE, os.O_WRONLY),
        (pb.ACCESS_READ_WRITE, os.O_RDWR),
    ],
)
def test_path_when_opened_for_a_function_then_with_just_its_access(
    tmp_path: Path, access: pb.Access.ValueType, mode: int
) -> None:
    path = tmp_path / "a"
    path.touch()
    with MadeFiles().open(path, access, 0o600) as f:
        assert fcntl.fcntl(f.fd, fcntl.F_GETFL) & os.O_ACCMODE == mode


def test_kind_when_asked_then_memory_is_what_has_no_file_behind_it() -> None:
    with ktask.memory(1) as m:
        assert is_memory(m)
        with open(os.dup(m.fd), "rb") as again:
            assert is_memory(again)
        assert not is_memory("/dev/shm/x")
        assert not is_memory(ktask.Handle("x"))


@pytest.mark.parametrize("source", [3, True, None, object(), ["x"], 1.5])
def test_source_when_it_cannot_be_one_then_a_type_error(source: object) -> None:
    with pytest.raises(TypeError, match='source "data": got'):
        check_source('source "data"', source)


def test_source_when_an_empty_path_then_a_value_error() -> None:
    with pytest.raises(ValueError, match="empty path"):
        check_source("source", "")
