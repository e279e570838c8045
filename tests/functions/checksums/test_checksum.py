"""The CRC-32 is the same as zlib's."""

from __future__ import annotations

import errno
import os
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.quanta import BUFFER, QUANTUM
from ktaskd.model.function import Access
from ktaskd.worker.sources import Source
from tests.functions.inprocess import KINDS, MIB, PAGE, Recorder, context_of, opened, seal

BODY = find("file.crc32")
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, BUFFER + 1, QUANTUM + PAGE + 3)


def noise(size: int) -> bytes:
    return (os.urandom(997) * (size // 997 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_when_summed_then_as_zlib(kind: str, size: int, tmp_path: Path) -> None:
    text = noise(size)
    with opened(kind, tmp_path, access=Access.READ) as source:
        os.pwrite(source.fd, text, 0)
        if kind == "sealed":
            seal(source)
        reached, part = BODY.run(context_of((0, size), data=source), 0, size, Recorder())
    assert reached == size
    assert part == {"crc32": zlib.crc32(text), "bytes": size}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3 * MIB), max_size=6), st.sampled_from(["sealed", "file"]))
def test_parts_when_combined_then_as_the_whole(tmp_path: Path, cuts: list[int], kind: str) -> None:
    text = b"ktask" * (3 * MIB // 5)
    edges = sorted({0, len(text), *(edge for edge in cuts if edge < len(text))})
    with opened(kind, tmp_path) as source:
        os.pwrite(source.fd, text, 0)
        if kind == "sealed":
            seal(source)
        context = context_of((0, len(text)), data=source)
        parts = []
        for start, end in pairwise(edges):
            _, part = BODY.run(context, start, end, Recorder())
            assert part is not None
            parts.append(part)
    assert BODY.combine(context, parts) == {"crc32": zlib.crc32(text), "bytes": len(text)}
    # Associative: combined in two halves it is the same.
    halves = [BODY.combine(context, parts[:2]), BODY.combine(context, parts[2:])]
    assert BODY.combine(context, halves) == {"crc32": zlib.crc32(text), "bytes": len(text)}


def test_combine_when_no_parts_then_the_sum_of_nothing() -> None:
    assert BODY.combine(context_of((0, 0)), []) == {"crc32": 0, "bytes": 0}


@pytest.mark.parametrize("kind", ["sealed", "file"])
def test_chunk_when_recalled_then_the_part_is_of_what_was_reached(kind: str, tmp_path: Path) -> None:
    text = noise(3 * QUANTUM)
    with opened(kind, tmp_path) as source:
        os.pwrite(source.fd, text, 0)
        if kind == "sealed":
            seal(source)
        control = Recorder(stop_after=2)
        reached, part = BODY.run(context_of((0, 3 * QUANTUM), data=source), 5, 3 * QUANTUM, control)
    assert reached == 2 * QUANTUM
    assert part == {"crc32": zlib.crc32(text[5:reached]), "bytes": reached - 5}


def test_sparse_memory_when_summed_then_its_holes_stay(tmp_path: Path) -> None:
    with opened("sealed", tmp_path) as source:
        os.ftruncate(source.fd, 8 * MIB)
        os.pwrite(source.fd, b"x" * MIB, 3 * MIB)
        seal(source)
        before = os.fstat(source.fd).st_blocks
        _, part = BODY.run(context_of((0, 8 * MIB), data=source), 0, 8 * MIB, Recorder())
        assert part == {"crc32": zlib.crc32(os.pread(source.fd, 8 * MIB, 0)), "bytes": 8 * MIB}
        assert os.fstat(source.fd).st_blocks == before


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_source_when_truncated_before_or_during_then_a_clear_error(
    kind: str, cached: bool, tmp_path: Path
) -> None:
    with opened(kind, tmp_path) as source:
        os.ftruncate(source.fd, 3 * QUANTUM)
        if cached:
            os.pwrite(source.fd, b"x" * 3 * QUANTUM, 0)
        context = context_of((0, 3 * QUANTUM), data=source)

        def shorten(position: int) -> None:
            if position:
                os.ftruncate(source.fd, QUANTUM + 10)

        with pytest.raises(
            OSError, match='source "data": ends at 2097162, but the job needs bytes up to'
        ) as caught:
            BODY.run(context, 0, 3 * QUANTUM, Recorder(on_quantum=shorten))
        assert caught.value.errno == errno.ENODATA
        with pytest.raises(OSError, match="the job needs bytes up to"):
            BODY.run(context, 0, 3 * QUANTUM, Recorder())


def items_of(paths: list[Path]) -> dict[int, Source]:
    from tests.support.sources import facts_of

    sources = {}
    for position, path in enumerate(paths):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        sources[position] = Source(fd, facts_of(fd, access=Access.READ))
    return sources


def test_items_when_recalled_inside_one_then_that_one_is_given_back_whole(tmp_path: Path) -> None:
    texts = [noise(10), noise(QUANTUM * 3), noise(5)]
    paths = [tmp_path / str(position) for position in range(3)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    items = items_of(paths)
    try:
        context = Context({}, {}, items, (0, 3), True)
        # Quanta: two for item 0; for item 1 one at its begin and three inside.
        reached, part = BODY.run(context, 0, 3, Recorder(stop_after=4))
        assert reached == 1
        assert part == {"items": [{"crc32": zlib.crc32(texts[0]), "bytes": 10}]}
        reached, rest = BODY.run(context, 1, 3, Recorder())
        assert reached == 3
        assert rest is not None
        assert BODY.combine(context, [part, rest]) == {
            "items": [{"crc32": zlib.crc32(text), "bytes": len(text)} for text in texts]
        }
    finally:
        for source in items.values():
            source.close()


def test_items_when_there_are_very_many_then_the_rest_is_given_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (source,) = items_of([tmp_path / "a"]).values()
    try:
        context = Context({}, {}, dict.fromkeys(range(1000), source), (0, 1000), True)
        reached, part = BODY.run(context, 100, 1000, Recorder())
        assert part is not None
        assert reached == 100 + len(part["items"]) == 612
    finally:
        source.close()
