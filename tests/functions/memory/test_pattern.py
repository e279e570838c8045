"""mem.pattern writes the same records as a plain loop, and counts the pages of each node."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.functions.memory.node_pages import EXACT_BYTES, STEP
from ktaskd.functions.quanta import BUFFER, QUANTUM
from ktaskd.model.function import ArgValue
from tests.functions.inprocess import (
    MIB,
    PAGE,
    Recorder,
    content,
    context_of,
    fit,
    hole_map,
    lay_out,
    opened,
    seal,
)

BODY = find("mem.pattern")
MEMORY = ("sealed", "memfd", "shm")


def arguments(record: bytes, at: int = -1, size: int = 8, first: int = 0) -> dict[str, ArgValue]:
    return {"record": record.hex(), "index_at": at, "index_bytes": size, "index_first": first}


def expected(record: bytes, at: int, size: int, first: int, start: int, end: int) -> bytes:
    """Bytes [start, end) of the pattern, record by record."""
    length = len(record)
    low, high = start // length, -(-end // length)
    made = bytearray()
    for i in range(low, high):
        one = bytearray(record)
        if at >= 0:
            one[at : at + size] = (first + i).to_bytes(size, "little")
        made += one
    return bytes(made[start - low * length : end - low * length])


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, QUANTUM + PAGE + 1])
def test_pattern_when_done_then_the_records(kind: str, size: int, tmp_path: Path) -> None:
    record = bytes(range(1, 49))
    with opened(kind, tmp_path) as source:
        fit(source, kind, size)
        context = context_of((0, size), arg=arguments(record, 5, 8, 7), data=source)
        assert BODY.prepare(context) == {}
        reached, _ = BODY.run(context, 0, size, Recorder())
        assert reached == size
        assert content(source) == expected(record, 5, 8, 7, 0, size)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pattern_when_cut_anywhere_then_the_same_bytes(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(MEMORY))
    length = data.draw(st.sampled_from([1, 2, 3, 7, 8, 12, 13, 64, 4095, 4096]) | st.integers(1, 4096))
    record = data.draw(st.binary(min_size=length, max_size=length))
    size = data.draw(st.sampled_from([4, 8]))
    at = data.draw(st.integers(0, length - size)) if length >= size else -1
    first = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 2**20]) | st.integers(0, 2**31))
    end = data.draw(st.integers(0, 600_000))
    edges = sorted({0, end, *data.draw(st.lists(st.integers(0, end), max_size=4))})
    spans = data.draw(st.permutations(list(pairwise(edges))))
    with opened(kind, tmp_path) as source:
        fit(source, kind, end)
        context = context_of((0, end), arg=arguments(record, at, size, first), data=source)
        BODY.prepare(context)
        for start, stop in spans:
            assert BODY.run(context, start, stop, Recorder())[0] == stop
        is_equal = content(source) == expected(record, at, size, first, 0, end)
        assert is_equal  # pytest would take minutes to show a difference of the bytes


def test_pattern_when_the_index_is_beyond_63_bits_then_right(tmp_path: Path) -> None:
    first = 2**63 - 1
    with opened("sealed", tmp_path) as source:
        fit(source, "sealed", BUFFER + 8)
        context = context_of((0, BUFFER + 8), arg=arguments(bytes(8), 0, 8, first), data=source)
        BODY.prepare(context)
        BODY.run(context, 0, BUFFER + 8, Recorder())
        assert content(source)[-8:] == (first + BUFFER // 8).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("arg", "says"),
    [
        ({"record": ""}, r'argument "record": got 0 bytes, wanted 1 to 4096'),
        ({"record": "00" * 4097}, r'argument "record": got 4097 bytes'),
        ({"record": "0g"}, r'argument "record": .*hex digits'),
        ({"record": "000"}, r'argument "record": .*hex digits'),
        (
            {"record": "00" * 8, "index_at": 1},
            r'argument "index_at": got 1, wanted 8 bytes of index inside a record of 8',
        ),
        ({"record": "00" * 7, "index_at": 0}, r'argument "index_at": got 0'),
        (
            {"record": "00" * 9, "index_at": 0, "index_bytes": 5},
            r'argument "index_bytes": got 5, wanted 4 or 8',
        ),
        (
            {"record": "00" * 4, "index_at": 0, "index_bytes": 4, "index_first": 2**32 - 24},
            r'argument "index_bytes": the last index is 4294967296, but 4 bytes hold at most 4294967295',
        ),
    ],
)
def test_prepare_when_the_arguments_are_wrong_then_it_says_so(
    arg: dict[str, ArgValue], says: str, tmp_path: Path
) -> None:
    with opened("memfd", tmp_path) as source:
        fit(source, "memfd", 100)
        context = context_of((0, 100), arg={**arguments(b"x"), **arg}, data=source)
        with pytest.raises((ValueError, OSError), match=says):
            BODY.prepare(context)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(MEMORY),
    own_offset=st.booleans(),
    data=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=6),
    pages=st.tuples(st.integers(0, 48), st.integers(0, 48)),
)
def test_pattern_when_undone_then_holes_are_holes_and_the_rest_is_named(
    tmp_path: Path, kind: str, own_offset: bool, data: list[tuple[int, int]], pages: tuple[int, int]
) -> None:
    with opened(kind, tmp_path, own_offset=own_offset) as source:
        lay_out(source, 48 * PAGE, [(page * PAGE, b"x" * count * PAGE) for page, count in data])
        if kind == "sealed":
            seal(source)
        start, end = min(pages) * PAGE, max(pages) * PAGE
        before, holes = content(source), hole_map(source)
        context = context_of((start, end), arg=arguments(b"record", 2, 4), data=source)
        control = Recorder()
        BODY.run(context, start, end, control)
        kept = BODY.undo(context, start, end, sorted(control.holes), Recorder())
        after = content(source)
        dirty = {page for first, stop in kept for page in range(first // PAGE, stop // PAGE)}
        for page in range(48):
            if page not in dirty:
                assert after[page * PAGE : (page + 1) * PAGE] == before[page * PAGE : (page + 1) * PAGE]
        assert hole_map(source) == holes


def test_pattern_when_recalled_then_only_what_was_reached(tmp_path: Path) -> None:
    with opened("sealed", tmp_path) as source:
        fit(source, "sealed", 4 * QUANTUM)
        context = context_of((0, 4 * QUANTUM), arg=arguments(b"\1"), data=source)
        reached, _ = BODY.run(context, 0, 4 * QUANTUM, Recorder(stop_after=2))
        assert reached == 2 * QUANTUM
        assert content(source) == b"\1" * reached + bytes(2 * QUANTUM)


def test_wiped_when_asked_then_nothing_of_the_records_is_kept(tmp_path: Path) -> None:
    with opened("memfd", tmp_path) as source:
        fit(source, "memfd", MIB)
        BODY.run(context_of((0, MIB), arg=arguments(b"secret"), data=source), 0, MIB, Recorder())
        held = [value for value in vars(BODY).values() if isinstance(value, bytearray)]
        assert any(b"secret" in value for value in held)
        BODY.wipe()
        assert not any(any(value) for value in held)


# -- where the pages are ----------------------------------------------------------


ON_ONE_NODE = pytest.mark.skipif(
    len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) > 1, reason="needs one node, to know which"
)
WORKS: dict[str, dict[str, ArgValue]] = {
    "mem.fill": {"value": 7},
    "mem.populate": {},
    "mem.pattern": arguments(b"abc"),
    "mem.copy": {},
}


@ON_ONE_NODE
@pytest.mark.parametrize("function", WORKS)
def test_pages_when_asked_for_then_all_on_the_only_node(function: str, tmp_path: Path) -> None:
    body = find(function)
    size = 3 * MIB + 5
    with opened("sealed", tmp_path, name="other") as other, opened("sealed", tmp_path) as source:
        for one in (other, source):
            lay_out(one, size, [(0, b"x" * size)])
            seal(one)
        sources = {"src": other, "dst": source} if function == "mem.copy" else {"data": source}
        context = Context(WORKS[function], sources, {}, (0, size), False)
        parts = []
        for start, end in pairwise([0, PAGE, 5 * PAGE, MIB, size]):
            reached, part = body.run(context, start, end, Recorder())
            assert reached == end
            assert part is not None
            parts.append(part)
        pages = 3 * MIB // PAGE + 1
        assert body.combine(context, parts) == {"pages": {"0": pages}, "pages_sampled": pages}
    assert body.combine(context, []) == {"pages": {}, "pages_sampled": 0}


@ON_ONE_NODE
def test_pages_when_the_job_is_long_then_one_in_each_step(tmp_path: Path) -> None:
    body = find("mem.populate")
    with opened("sealed", tmp_path) as source:
        fit(source, "sealed", EXACT_BYTES + STEP)
        context = context_of((0, EXACT_BYTES + STEP), data=source)
        _, part = body.run(context, PAGE, 4 * MIB, Recorder())
        assert part == {"pages": {"0": 4 * MIB // STEP - 1}, "pages_sampled": 4 * MIB // STEP - 1}


def test_pages_when_they_are_holes_then_on_no_node(tmp_path: Path) -> None:
    body = find("mem.copy")
    with (
        opened("sealed", tmp_path, own_offset=True, name="src") as src,
        opened("sealed", tmp_path, own_offset=True) as dst,
    ):
        lay_out(src, 4 * PAGE, [(PAGE, b"x")])
        seal(src)
        fit(dst, "sealed", 4 * PAGE)
        context = context_of((0, 4 * PAGE), src=src, dst=dst)
        reached, part = body.run(context, 0, 4 * PAGE, Recorder())
        assert reached == 4 * PAGE
        assert part is not None
        assert part["pages_sampled"] == 4
        assert sum(part["pages"].values()) == 1
        assert hole_map(dst) == [(PAGE, 2 * PAGE)]


@pytest.mark.parametrize("kind", ["memfd", "shm"])
def test_pages_when_the_source_is_not_mapped_then_no_answer(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as source:
        fit(source, kind, PAGE)
        find("mem.populate").run(context_of((0, PAGE), data=source), 0, PAGE, Recorder())
        fill = context_of((0, PAGE), arg={"value": 1}, data=source)
        assert find("mem.fill").run(fill, 0, PAGE, Recorder()) == (PAGE, None)
        pattern = context_of((0, PAGE), arg=arguments(b"x"), data=source)
        assert BODY.run(pattern, 0, PAGE, Recorder()) == (PAGE, None)
        assert os.pread(source.fd, 2, 0) == b"xx"
