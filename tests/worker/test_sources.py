"""A source keeps its mapping, and releases everything when it is closed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktaskd.host.files import holes
from ktaskd.model.function import Access
from ktaskd.worker.sources import Source
from tests.support.sources import facts_of

PAGE = 4096
LONG = 4 << 20
"""Bytes of a file that is mapped to be read."""


def sealed_memory(size: int) -> int:
    fd = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return fd


@pytest.fixture
def source() -> Iterator[Source]:
    fd = sealed_memory(2 * PAGE + 10)
    made = Source(fd, facts_of(fd))
    yield made
    made.close()


def test_view_when_written_then_the_file_has_it(source: Source) -> None:
    with source.view(PAGE - 1, PAGE + 2, write=True) as view:
        view[:] = b"abc"
    assert os.pread(source.fd, 3, PAGE - 1) == b"abc"


def test_view_when_beyond_the_end_then_truncated(source: Source) -> None:
    with pytest.raises(OSError) as caught:
        source.view(0, 3 * PAGE, write=True)
    assert caught.value.errno == errno.ENODATA


def test_view_when_empty_then_nothing_is_mapped(source: Source) -> None:
    with source.view(5, 5, write=True) as view:
        assert len(view) == 0


def test_view_when_the_memory_grew_then_mapped_again(source: Source) -> None:
    source.view(0, 1, write=True).release()
    os.ftruncate(source.fd, 10 * PAGE)
    with source.view(9 * PAGE, 10 * PAGE, write=True) as view:
        view[0] = 1


def test_view_when_opened_for_reading_then_read_only() -> None:
    fd = sealed_memory(PAGE)
    other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    source = Source(other, facts_of(other, access=Access.READ))
    try:
        assert not source.write_mapped()
        with source.view(0, PAGE, write=False) as view:
            assert view.readonly
        with pytest.raises(OSError):
            source.view(0, PAGE, write=True)
    finally:
        source.close()


def test_populate_when_pages_are_gone_since_then_they_are_there_again(source: Source) -> None:
    """The pages were populated here before, but somebody has made a hole since."""
    source.populate(0, 2 * PAGE)
    holes.punch(source.fd, PAGE, 2 * PAGE)
    source.populate(0, 2 * PAGE)
    assert os.fstat(source.fd).st_blocks * 512 == 2 * PAGE


def test_populate_when_it_may_not_be_asked_then_populated_again(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter of system calls may forbid mincore."""

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "mincore: not permitted")

    source.populate(0, 2 * PAGE)
    monkeypatch.setattr("ktaskd.host.memory.mapping.mincore", refused)
    holes.punch(source.fd, PAGE, 2 * PAGE)
    source.populate(0, 2 * PAGE)
    assert os.fstat(source.fd).st_blocks * 512 == 2 * PAGE


def test_populate_when_the_file_was_truncated_then_an_error_and_no_signal(tmp_path: Path) -> None:
    fd = os.memfd_create("unsealed")
    os.ftruncate(fd, 4 * PAGE)
    source = Source(fd, facts_of(fd))
    try:
        source.populate(0, 4 * PAGE)
        os.ftruncate(fd, PAGE)
        with pytest.raises(OSError) as caught:
            source.populate(PAGE, 4 * PAGE)
        assert caught.value.errno == errno.EFAULT
        assert "shorter" in str(caught.value)
    finally:
        source.close()


def test_absent_when_some_pages_were_written_then_the_others(source: Source) -> None:
    os.pwrite(source.fd, b"x", PAGE)
    assert source.absent(10, 2 * PAGE + 10) == [(10, PAGE), (2 * PAGE, 2 * PAGE + 10)]
    assert source.absent(PAGE, 2 * PAGE) == []
    assert source.absent(7, 7) == []


def test_holes_when_the_offset_is_shared_then_not_asked(source: Source) -> None:
    os.lseek(source.fd, 123, os.SEEK_SET)
    assert source.holes(0, PAGE) is None
    assert os.lseek(source.fd, 0, os.SEEK_CUR) == 123


@pytest.fixture
def own() -> Iterator[Source]:
    """Sixteen pages of data, whose offset nobody else uses."""
    fd = os.memfd_create("own", os.MFD_CLOEXEC)
    os.pwrite(fd, b"x" * 16 * PAGE, 0)
    made = Source(fd, facts_of(fd, own_offset=True))
    yield made
    made.close()


def test_holes_when_data_was_seen_then_not_asked_again_until_the_next_job(own: Source) -> None:
    asked: list[tuple[int, int]] = []
    read = holes.read_layout

    def noted(fd: int, start: int, end: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
        asked.append((start, end))
        return read(fd, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holes, "read_layout", noted)
        for start in range(0, 16 * PAGE, PAGE):
            assert own.holes(start, start + PAGE) == []
        assert asked == [(0, PAGE)]
        holes.punch(own.fd, 4 * PAGE, 5 * PAGE)  # somebody else
        own.begin_job()
        assert own.holes(0, 16 * PAGE) == [(4 * PAGE, 5 * PAGE)]
        assert own.holes(4 * PAGE, 6 * PAGE) == [(4 * PAGE, 5 * PAGE)]
        own.punch(8 * PAGE, 9 * PAGE)
        assert own.holes(8 * PAGE, 10 * PAGE) == [(8 * PAGE, 9 * PAGE)]


def test_close_when_closed_then_descriptor_and_mapping_are_gone(source: Source) -> None:
    source.view(0, 1, write=False).release()
    source.close()
    assert source.fd == -1
    source.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Source]:
    """A file that was just written, so it is in the page cache."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * LONG + b"end")
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    made = Source(fd, facts_of(fd))
    yield made
    made.close()


def test_cached_when_all_of_it_is_in_the_page_cache_then_its_bytes_and_nobody_can_write_there(
    on_disk: Source,
) -> None:
    view = on_disk.cached(PAGE - 1, LONG + 3)
    assert view is not None
    with view:
        assert bytes(view) == b"x" * (LONG - PAGE + 1) + b"end"
        assert view.readonly


def test_cached_when_a_page_is_not_there_then_none_until_it_is(on_disk: Source) -> None:
    os.ftruncate(on_disk.fd, 2 * LONG)
    assert on_disk.cached(0, 2 * LONG) is None
    os.pread(on_disk.fd, 2 * LONG, 0)
    view = on_disk.cached(0, 2 * LONG)
    assert view is not None
    view.release()


def test_cached_when_the_file_was_cut_then_none_instead_of_a_signal(on_disk: Source) -> None:
    view = on_disk.cached(0, LONG)
    assert view is not None
    view.release()
    os.ftruncate(on_disk.fd, PAGE)
    assert on_disk.cached(0, LONG) is None


def test_cached_when_the_file_is_short_then_none(tmp_path: Path) -> None:
    """A mapping costs more than it saves, and a descriptor."""
    path = tmp_path / "short"
    path.write_bytes(b"x" * (LONG - 1))
    fd = os.open(path, os.O_RDWR)
    made = Source(fd, facts_of(fd))
    assert made.cached(0, PAGE) is None
    made.close()


def test_cached_when_it_is_memory_then_none(source: Source) -> None:
    assert source.cached(0, PAGE) is None


def test_unmap_when_a_file_was_read_in_the_page_cache_then_nothing_is_mapped_until_it_is_read_again(
    on_disk: Source,
) -> None:
    def mapped() -> bool:
        return on_disk_path(on_disk) in Path("/proc/self/maps").read_text()

    view = on_disk.cached(0, LONG)
    assert view is not None
    on_disk.unmap()
    assert mapped(), "a view is in use"
    view.release()
    assert on_disk.mapped_bytes > LONG
    on_disk.unmap()
    assert not mapped()
    assert on_disk.mapped_bytes == 0
    again = on_disk.cached(0, 1)
    assert again is not None
    with again:
        assert bytes(again) == b"x"


def on_disk_path(source: Source) -> str:
    return os.readlink(f"/proc/self/fd/{source.fd}")
