"""file.compare finds the same first difference as cmp(1), for all lengths, holes and cuts."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Json
from ktaskd.functions.quanta import BUFFER, QUANTUM
from ktaskd.model.function import Access
from ktaskd.worker.sources import Source
from tests.functions.inprocess import KINDS, MIB, PAGE, Recorder, context_of, lay_out, opened, seal

BODY = find("file.compare")
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, BUFFER - 1, BUFFER, BUFFER + 1, QUANTUM - 1, QUANTUM, QUANTUM + 1)


def whole(a: Source, b: Source, edges: list[int] | None = None) -> Json:
    size = os.fstat(a.fd).st_size
    context = context_of((0, size), whole=True, a=a, b=b)
    parts = []
    for start, end in pairwise(edges or [0, size]):
        reached, part = BODY.run(context, start, end, Recorder())
        assert reached == end
        assert part is not None
        parts.append(part)
    return BODY.combine(context, parts if size else [])


def cmp_of(a: Source, b: Source) -> int:
    """The first position where two open files differ according to cmp; -1 = they are equal."""
    names = [f"/proc/self/fd/{one.fd}" for one in (a, b)]
    done = subprocess.run(
        ["cmp", *names],
        pass_fds=(a.fd, b.fd),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return -1
    if "EOF" in done.stderr:
        return min(os.fstat(a.fd).st_size, os.fstat(b.fd).st_size)
    found = re.search(r"(?:byte|char) (\d+)", done.stdout)
    assert found, done
    return int(found[1]) - 1


@pytest.mark.skipif(shutil.which("cmp") is None, reason="needs cmp, to compare with")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_whole_when_compared_then_as_cmp(kind: str, size: int, tmp_path: Path) -> None:
    text = os.urandom(size)
    with opened(kind, tmp_path, name="a") as a, opened("file", tmp_path, name="b") as b:
        for one in (a, b):
            os.pwrite(one.fd, text, 0)
        if kind == "sealed":
            seal(a)
        assert whole(a, b) == {"equal": True, "first_difference": -1, "bytes": size}
        for position in {0, size // 2, size - 1} & set(range(size)):
            os.pwrite(b.fd, bytes([text[position] ^ 1]), position)
            assert whole(a, b)["first_difference"] == cmp_of(a, b) == position
            os.pwrite(b.fd, text[position : position + 1], position)
        os.pwrite(b.fd, b"\0", size)
        assert whole(a, b) == {"equal": False, "first_difference": size, "bytes": size}
        assert cmp_of(a, b) == size
        os.ftruncate(b.fd, size // 2)
        assert whole(a, b)["first_difference"] == cmp_of(a, b) == (size // 2 if size else -1)


@pytest.mark.skipif(shutil.which("cmp") is None, reason="needs cmp, to compare with")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whole_when_cut_anywhere_then_as_cmp(tmp_path: Path, data: st.DataObject) -> None:
    layouts = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6), st.sampled_from(b"\0xy")), max_size=6)
    kinds, own = data.draw(st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS))), st.booleans()
    sizes = data.draw(st.tuples(st.integers(0, 48 * PAGE), st.integers(0, 48 * PAGE)))
    same = data.draw(layouts)
    with (
        opened(kinds[0], tmp_path, own_offset=data.draw(own), name="a") as a,
        opened(kinds[1], tmp_path, own_offset=data.draw(own), name="b") as b,
    ):
        for one, size in ((a, sizes[0]), (b, data.draw(st.sampled_from(sizes)))):
            layout = [*same, *data.draw(st.just([]) | layouts)]
            lay_out(one, 0, [(page * PAGE, bytes([byte]) * count * PAGE) for page, count, byte in layout])
            os.ftruncate(one.fd, size)
        edges = sorted({0, sizes[0], *data.draw(st.lists(st.integers(0, sizes[0]), max_size=4))})
        found = whole(a, b, edges)
        position = cmp_of(a, b)
        assert found == {"equal": position < 0, "first_difference": position, "bytes": sizes[0]}


def test_ranges_when_compared_then_only_those_count(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="a") as a, opened("memfd", tmp_path, name="b") as b:
        os.pwrite(a.fd, b"a" * 100, 0)
        os.pwrite(b.fd, b"b" * 10 + b"a" * 80 + b"longer"[:0], 0)
        context = context_of((10, 100), a=a, b=b)
        assert BODY.run(context, 10, 90, Recorder())[1] == {
            "equal": True,
            "first_difference": -1,
            "bytes": 80,
        }
        assert BODY.run(context, 10, 100, Recorder())[1] == {
            "equal": False,
            "first_difference": 90,
            "bytes": 90,
        }
        assert BODY.run(context, 95, 100, Recorder())[1] == {
            "equal": False,
            "first_difference": 95,
            "bytes": 5,
        }
        os.pwrite(b.fd, b"a" * 100, 90)
        assert BODY.run(context, 10, 100, Recorder())[1] == {
            "equal": True,
            "first_difference": -1,
            "bytes": 90,
        }
        assert BODY.combine(context, []) == {"equal": True, "first_difference": -1, "bytes": 0}


def test_combine_when_in_halves_then_the_lowest(tmp_path: Path) -> None:
    context = context_of((0, 30))
    parts = [
        {"equal": True, "first_difference": -1, "bytes": 10},
        {"equal": False, "first_difference": 15, "bytes": 10},
        {"equal": False, "first_difference": 20, "bytes": 10},
    ]
    answer = {"equal": False, "first_difference": 15, "bytes": 30}
    assert BODY.combine(context, parts) == answer
    assert BODY.combine(context, [parts[0], BODY.combine(context, parts[1:])]) == answer


@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_sparse_when_very_long_then_holes_are_not_read(kind: str, tmp_path: Path) -> None:
    size = 4 << 30
    with (
        opened(kind, tmp_path, own_offset=True, name="a") as a,
        opened(kind, tmp_path, own_offset=True, name="b") as b,
    ):
        for one in (a, b):
            os.ftruncate(one.fd, size)
            os.pwrite(one.fd, b"x", size // 2)
        before = os.fstat(a.fd).st_blocks
        assert whole(a, b) == {"equal": True, "first_difference": -1, "bytes": size}
        os.pwrite(b.fd, b"y", size - 1)
        assert whole(a, b)["first_difference"] == size - 1
        assert os.fstat(a.fd).st_blocks == before


@pytest.mark.parametrize("own_offset", [False, True])
def test_source_when_truncated_meanwhile_then_no_wrong_answer(own_offset: bool, tmp_path: Path) -> None:
    with (
        opened("memfd", tmp_path, own_offset=own_offset, name="a") as a,
        opened("memfd", tmp_path, own_offset=own_offset, name="b") as b,
    ):

        def shorten(source: Source) -> Recorder:
            for one in (a, b):
                os.ftruncate(one.fd, 3 * QUANTUM)
            return Recorder(
                on_quantum=lambda at: os.ftruncate(source.fd, QUANTUM + 5) if at == QUANTUM else None
            )

        context = context_of((0, 3 * QUANTUM), whole=True, a=a, b=b)
        with pytest.raises(OSError, match=r'source "a": ends at') as caught:
            BODY.run(context, 0, 3 * QUANTUM, shorten(a))
        assert caught.value.errno == errno.ENODATA
        _, part = BODY.run(context, 0, 3 * QUANTUM, shorten(b))
        assert part == {"equal": False, "first_difference": QUANTUM + 5, "bytes": 3 * QUANTUM}


def test_b_when_truncated_while_its_holes_are_skipped_then_no_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        opened("memfd", tmp_path, own_offset=True, name="a") as a,
        opened("memfd", tmp_path, own_offset=True, name="b") as b,
    ):
        for one in (a, b):
            os.ftruncate(one.fd, MIB)

        def shorten(start: int, end: int) -> list[tuple[int, int]]:
            os.ftruncate(b.fd, PAGE)
            return [(start, end)]

        monkeypatch.setattr(b, "holes", shorten)
        context = context_of((0, MIB), whole=True, a=a, b=b)
        _, part = BODY.run(context, 0, MIB, Recorder())
        assert part == {"equal": False, "first_difference": PAGE, "bytes": MIB}


def test_whole_when_a_grew_meanwhile_then_an_error(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="a") as a, opened("file", tmp_path, name="b") as b:
        for one in (a, b):
            os.ftruncate(one.fd, MIB)
        context = context_of((0, MIB), whole=True, a=a, b=b)
        os.ftruncate(a.fd, MIB + 1)
        with pytest.raises(
            OSError, match=r'source "a": changed its length .* from 1048576 to 1048577 bytes'
        ) as caught:
            BODY.run(context, 0, MIB, Recorder())
        assert caught.value.errno == errno.ESTALE


def test_chunk_when_recalled_then_the_part_is_of_what_was_reached(tmp_path: Path) -> None:
    with (
        opened("file", tmp_path, access=Access.READ, name="a") as a,
        opened("file", tmp_path, access=Access.READ, name="b") as b,
    ):
        for one in (a, b):
            os.pwrite(one.fd, b"x" * (3 * QUANTUM), 0)
        context = context_of((0, 3 * QUANTUM), whole=True, a=a, b=b)
        reached, part = BODY.run(context, 5, 3 * QUANTUM, Recorder(stop_after=2))
        assert reached == 2 * QUANTUM
        assert part == {"equal": True, "first_difference": -1, "bytes": 2 * QUANTUM - 5}


def test_wiped_when_asked_then_nothing_is_kept(tmp_path: Path) -> None:
    with opened("file", tmp_path, name="a") as a:
        os.pwrite(a.fd, b"secret", 0)
        whole(a, a)
        held = [value for value in vars(BODY).values() if isinstance(value, bytearray)]
        assert any(b"secret" in value for value in held)
        BODY.wipe()
        assert not any(any(value) for value in held)
