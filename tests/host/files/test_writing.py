"""Bytes go to their position, or the error names the range where they may be."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ktaskd.host.files.writing import Misplaced, Positioned, copy_watched, write_watched

PAGE = 4096


def set_append(fd: int, on: bool = True) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND if on else flags & ~os.O_APPEND)


@pytest.fixture(params=["file", "memfd", "write-only"])
def fd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """An open file of two pages of zeros."""
    if request.param == "memfd":
        fd = os.memfd_create("f")
    else:
        flags = os.O_RDWR if request.param == "file" else os.O_WRONLY
        fd = os.open(tmp_path / "f", flags | os.O_CREAT)
    os.write(fd, bytes(2 * PAGE))
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return Path(f"/proc/self/fd/{fd}").read_bytes()


def test_write_when_o_append_is_set_then_at_the_position_or_an_error(fd: int) -> None:
    set_append(fd)
    written = False
    with contextlib.suppress(OSError):  # Linux before 6.9 cannot do it: see the next test
        written = Positioned().write(fd, [b"ab", b"cd"], 10) == 4
    assert content(fd) == bytes(10) + (b"abcd" if written else bytes(4)) + bytes(2 * PAGE - 14)


def test_write_when_the_kernel_cannot_ignore_o_append_then_refused_before_a_byte_is_written(fd: int) -> None:
    writer = Positioned(ignores_append=False)
    assert writer.write(fd, [b"abcd"], PAGE) == 4
    set_append(fd)
    with pytest.raises(OSError, match="O_APPEND") as caught:
        writer.write(fd, [b"abcd"], 0)
    assert caught.value.errno == errno.EBADF
    assert content(fd) == bytes(PAGE) + b"abcd" + bytes(PAGE - 4)


@pytest.mark.parametrize("cleared", [False, True])
def test_write_when_o_append_comes_between_check_and_write_then_the_error_has_the_range(
    fd: int, cleared: bool
) -> None:
    def append(fd: int, *args: Any) -> int:
        set_append(fd)
        count = os.pwritev(fd, *args)
        set_append(fd, not cleared)
        return count

    readable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
    if cleared and not readable:
        return  # nothing can be known
    with pytest.raises(Misplaced) as caught:
        write_watched(fd, [b"abcd"], 100, append)
    assert (caught.value.start, caught.value.end) == (2 * PAGE, 2 * PAGE + 4)
    assert content(fd).endswith(b"abcd")


def test_write_when_somebody_else_appends_meanwhile_then_no_error(fd: int) -> None:
    def beside(fd: int, *args: Any) -> int:
        os.truncate(f"/proc/self/fd/{fd}", 10 * PAGE)
        return os.pwritev(fd, *args)

    assert write_watched(fd, [b"abcd"], 100, beside) == 4
    assert write_watched(fd, [b"abcd"], 20 * PAGE) == 4


def test_kernel_copy_when_o_append_comes_meanwhile_then_the_error_has_the_range(
    fd: int, tmp_path: Path
) -> None:
    src = os.open(tmp_path / "src", os.O_RDWR | os.O_CREAT)

    def copy(src: int, dst: int, count: int, at: int, to: int) -> int:
        set_append(dst)
        return os.pwrite(dst, os.pread(src, count, at), to)

    try:
        os.write(src, b"x" * PAGE)
        with pytest.raises(Misplaced) as caught:
            copy_watched(src, fd, PAGE, 0, copy)
        assert (caught.value.start, caught.value.end) == (2 * PAGE, 3 * PAGE)
    finally:
        os.close(src)
