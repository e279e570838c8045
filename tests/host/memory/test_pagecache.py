"""Pages that are not in memory are found, whether the others were written or only reserved."""

from __future__ import annotations

import mmap
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.host.memory.pagecache import read_vacant

PAGE = mmap.PAGESIZE


@settings(deadline=None)
@given(st.lists(st.sampled_from("-wr"), max_size=40), st.integers(0, 40 * PAGE), st.integers(0, 40 * PAGE))
def test_vacant_when_some_pages_are_there_then_exactly_the_others(
    pages: list[str], start: int, end: int
) -> None:
    size = len(pages) * PAGE
    start, end = sorted((min(start, size), min(end, size)))
    fd = os.memfd_create("vacant")
    try:
        os.ftruncate(fd, size)
        for number, kind in enumerate(pages):
            if kind == "w":
                os.pwrite(fd, b"\0", number * PAGE)
            elif kind == "r":
                os.posix_fallocate(fd, number * PAGE, PAGE)
        found = read_vacant(fd, start, end)
    finally:
        os.close(fd)
    wanted: list[tuple[int, int]] = []
    for page, kind in enumerate(pages):
        first, after = max(start, page * PAGE), min(end, page * PAGE + PAGE)
        if kind == "-" and first < after:
            joins = bool(wanted) and wanted[-1][1] == first
            wanted = [*wanted[:-1], (wanted[-1][0], after)] if joins else [*wanted, (first, after)]
    assert found == wanted
