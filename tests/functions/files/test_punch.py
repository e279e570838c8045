"""file.punch makes holes exactly in the given ranges.

Tests: ktaskd/functions/files/allocate.py
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.model.function import Access, ArgValue
from ktaskd.model.source import SourceKind
from ktaskd.worker.sources import Source
from tests.functions.inprocess import KINDS, MIB, PAGE, Recorder, content, context_of, hole_map, opened, seal
from tests.support.sources import facts_of

BODY = find("file.punch")
HUGE_PAGE = 2 * MIB


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 64 * PAGE), min_size=2, max_size=5, unique=True))
def test_span_when_punched_in_any_cut_then_zeros_there_and_nothing_else(
    tmp_path: Path, kind: str, edges: list[int]
) -> None:
    size = 64 * PAGE
    edges.sort()
    start, end = edges[0], edges[-1]
    with opened(kind, tmp_path) as source:
        os.pwrite(source.fd, b"x" * size, 0)
        if kind == "sealed":
            seal(source)
        context = context_of((start, end), data=source)
        for first, after in pairwise(edges):
            assert BODY.run(context, first, after, Recorder()) == (after, None)
        assert content(source) == b"x" * start + bytes(end - start) + b"x" * (size - end)
        # Whole pages have no storage left, unless a chunk was cut inside them.
        pages = range(-(-start // PAGE), end // PAGE)
        cut = {edge // PAGE for edge in edges if edge % PAGE}
        data = {page for first, after in hole_map(source) for page in range(first // PAGE, -(-after // PAGE))}
        assert not data & (set(pages) - cut)


def test_whole_when_punched_then_it_takes_no_space(tmp_path: Path) -> None:
    with opened("memfd", tmp_path, access=Access.WRITE) as source:
        os.pwrite(source.fd, b"x" * (20 * MIB), 0)
        control = Recorder(stop_after=1)
        context = context_of((0, 20 * MIB), data=source)
        assert BODY.run(context, 0, 20 * MIB, control)[0] == 8 * MIB
        assert os.fstat(source.fd).st_blocks == 12 * MIB // 512
        assert BODY.run(context, 8 * MIB, 20 * MIB, Recorder()) == (20 * MIB, None)
        assert (os.fstat(source.fd).st_blocks, os.fstat(source.fd).st_size) == (0, 20 * MIB)


def test_source_when_shorter_then_an_error(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        os.ftruncate(source.fd, PAGE)
        with pytest.raises(OSError, match=r'source "data": ends at') as caught:
            BODY.run(context_of((0, 2 * PAGE), data=source), 0, 2 * PAGE, Recorder())
        assert caught.value.errno == errno.ENODATA


@pytest.mark.parametrize(
    ("number", "reached"), [(errno.EOPNOTSUPP, 0), (errno.EPERM, 0), (errno.EIO, PAGE), (errno.EINTR, PAGE)]
)
def test_source_when_it_refuses_then_named_and_only_what_may_have_changed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reached: int
) -> None:
    def refuse(start: int, end: int) -> None:
        raise OSError(number, os.strerror(number))

    with opened("file", tmp_path) as source:
        os.ftruncate(source.fd, PAGE)
        monkeypatch.setattr(source, "punch", refuse)
        control = Recorder()
        words = os.strerror(number)
        says = f'source "data": cannot punch bytes 0 to 4096: {words[0].lower()}{words[1:]}'
        with pytest.raises(OSError, match=says):
            BODY.run(context_of((0, PAGE), data=source), 0, PAGE, control)
        assert control.positions == [0, reached]


@pytest.fixture
def huge() -> Iterator[Source]:
    """Four huge pages, if the machine has free ones."""
    fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4 * HUGE_PAGE)
    source = Source(fd, replace(facts_of(fd), kind=SourceKind.HUGE, page_size=HUGE_PAGE))
    try:
        try:
            source.populate(0, 4 * HUGE_PAGE)
        except OSError as error:
            pytest.skip(f"no huge pages here: {error}")
        yield source
    finally:
        source.close()


def test_huge_pages_when_punched_then_whole_ones_are_free_and_zeros_in_the_rest(huge: Source) -> None:
    with huge.view(0, 4 * HUGE_PAGE, write=True) as view:
        view[:] = b"x" * (4 * HUGE_PAGE)
    start, end = HUGE_PAGE - 5, 3 * HUGE_PAGE + 5
    assert BODY.run(context_of((start, end), data=huge), start, end, Recorder()) == (end, None)
    assert os.fstat(huge.fd).st_blocks * 512 == 2 * HUGE_PAGE
    with huge.view(0, 4 * HUGE_PAGE, write=False) as view:
        assert bytes(view) == b"x" * start + bytes(end - start) + b"x" * (4 * HUGE_PAGE - end)


def test_huge_pages_when_allocated_then_there(huge: Source) -> None:
    huge.punch(0, 4 * HUGE_PAGE)
    assert os.fstat(huge.fd).st_blocks == 0
    context = context_of((0, 4 * HUGE_PAGE), data=huge)
    assert find("file.allocate").run(context, 0, 4 * HUGE_PAGE, Recorder()) == (4 * HUGE_PAGE, None)
    assert os.fstat(huge.fd).st_blocks * 512 == 4 * HUGE_PAGE


def test_huge_pages_when_initialised_then_each_is_counted_once(huge: Source) -> None:
    arg: dict[str, ArgValue] = {"record": "0102", "index_at": -1, "index_bytes": 8, "index_first": 0}
    context = context_of((0, 4 * HUGE_PAGE), arg=arg, data=huge)
    body = find("mem.pattern")
    parts = []
    for start, end in pairwise([0, PAGE, HUGE_PAGE + PAGE, 4 * HUGE_PAGE]):
        reached, part = body.run(context, start, end, Recorder())
        assert reached == end
        assert part is not None
        parts.append(part)
    answer = body.combine(context, parts)
    assert (sum(answer["pages"].values()), answer["pages_sampled"]) == (4, 4)
    with huge.view(0, 4 * HUGE_PAGE, write=False) as view:
        assert bytes(view) == b"\1\2" * (2 * HUGE_PAGE)
