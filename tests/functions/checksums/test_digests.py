"""Digests are the same as those of hashlib, blake3 and xxhash when called directly."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Body, Context
from ktaskd.functions.checksums.digests import Digest, Sha256
from ktaskd.functions.quanta import QUANTUM
from ktaskd.functions.reading import LONG_ITEMS_PER_PART
from ktaskd.model.function import Access, ArgValue
from ktaskd.worker.sources import Source
from tests.functions.checksums.test_checksum import noise
from tests.functions.inprocess import KINDS, PAGE, Recorder, context_of, opened, seal
from tests.support.sources import facts_of

Plain = Callable[[bytes], str]
OF: dict[str, Plain] = {
    "sha256": lambda text: hashlib.sha256(text).hexdigest(),
    "sha512": lambda text: hashlib.sha512(text).hexdigest(),
    "blake3": lambda text: blake3(text).hexdigest(),
    "xxh3": lambda text: xxh3_64(text).hexdigest(),
}
SIZES = (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * QUANTUM + 3)


@pytest.fixture
def items(tmp_path: Path) -> Iterator[Callable[[list[bytes]], dict[int, Source]]]:
    """Makes files with these contents, as items."""
    with ExitStack() as end:

        def make(texts: list[bytes]) -> dict[int, Source]:
            sources = {}
            for position, text in enumerate(texts):
                path = tmp_path / f"item{position}"
                path.write_bytes(text)
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                sources[position] = Source(fd, facts_of(fd, access=Access.READ))
                end.callback(sources[position].close)
            return sources

        yield make


@pytest.mark.parametrize("name", OF)
def test_items_when_digested_then_as_the_library(
    name: str, items: Callable[[list[bytes]], dict[int, Source]]
) -> None:
    texts = [noise(size) for size in SIZES]
    context = Context({"block": 64 * PAGE}, {}, items(texts), (0, len(texts)), True)
    reached, part = find(f"file.{name}").run(context, 0, len(texts), Recorder())
    assert reached == len(texts)
    assert part == {"items": [{name: OF[name](text), "bytes": len(text)} for text in texts]}


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_manifest_when_of_items_then_the_digest_that_was_asked_for(
    algorithm: str, items: Callable[[list[bytes]], dict[int, Source]]
) -> None:
    arg: dict[str, ArgValue] = {"algorithm": algorithm, "block": 64 * PAGE}
    context = Context(arg, {}, items([b"a", b"b"]), (0, 2), True)
    find("file.manifest").prepare(context)
    _, part = find("file.manifest").run(context, 0, 2, Recorder())
    assert part == {"items": [{"digest": OF[algorithm](text), "bytes": 1} for text in (b"a", b"b")]}


def run_blocks(body: Body, context: Context, edges: list[int], stop_after: int = -1) -> list[object]:
    """All results of a job in these pieces; each may be recalled once after some number of quanta."""
    found: list[object] = []
    for start, end in pairwise(edges):
        while start < end:
            start, part = body.run(context, start, end, Recorder(stop_after))
            stop_after = -1
            assert part is not None
            found += part["items"]
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(KINDS),
    st.integers(1, 300_000),
    st.sampled_from([PAGE, 3 * PAGE + 1, QUANTUM + 5]),
    st.lists(st.integers(0, 80), max_size=4),
    st.integers(-1, 6),
)
def test_blocks_when_cut_and_recalled_anyhow_then_the_same(
    tmp_path: Path, kind: str, size: int, block: int, cuts: list[int], stop_after: int
) -> None:
    text = noise(size)
    count = -(-size // block)
    edges = sorted({0, count, *(edge for edge in cuts if edge < count)})
    with opened(kind, tmp_path) as source:
        os.pwrite(source.fd, text, 0)
        if kind == "sealed":
            seal(source)
        context = context_of((0, count), arg={"block": block}, data=source)
        found = run_blocks(find("file.xxh3"), context, edges, stop_after)
    blocks = [text[start : start + block] for start in range(0, size, block)]
    assert found == [{"xxh3": OF["xxh3"](piece), "bytes": len(piece)} for piece in blocks]


def test_item_when_recalled_and_given_again_then_it_goes_on_where_it_was(
    items: Callable[[list[bytes]], dict[int, Source]],
) -> None:
    text = noise(4 * QUANTUM)
    context = Context({}, {}, items([text]), (0, 1), True)
    body = Sha256()
    reached, part = body.run(context, 0, 1, Recorder(stop_after=3))
    assert (reached, part) == (0, {"items": []})
    again = Recorder()
    assert body.run(context, 0, 1, again) == (
        1,
        {"items": [{"sha256": OF["sha256"](text), "bytes": len(text)}]},
    )
    assert len(again.positions) == 1 + 2  # its first two quanta are not read again
    other = Sha256()
    other.run(context, 0, 1, Recorder(stop_after=3))
    other.wipe()
    assert other.run(context, 0, 1, again)[1] == {
        "items": [{"sha256": OF["sha256"](text), "bytes": len(text)}]
    }
    assert len(again.positions) == 3 + 1 + 4


def test_item_when_of_another_job_then_it_does_not_go_on_with_the_first(
    items: Callable[[list[bytes]], dict[int, Source]],
) -> None:
    sources = items([noise(4 * QUANTUM)])
    body = Sha256()
    body.run(Context({}, {}, sources, (0, 1), True), 0, 1, Recorder(stop_after=3))
    control = Recorder()
    body.run(Context({}, {}, sources, (0, 1), True), 0, 1, control)
    assert len(control.positions) == 1 + 4


def test_items_when_there_are_very_many_then_the_rest_is_given_back(
    items: Callable[[list[bytes]], dict[int, Source]],
) -> None:
    (source,) = items([b"a"]).values()
    context = Context({}, {}, dict.fromkeys(range(1000), source), (0, 1000), True)
    reached, part = find("file.sha256").run(context, 10, 1000, Recorder())
    assert part is not None
    assert reached == 10 + len(part["items"]) == 10 + LONG_ITEMS_PER_PART


@pytest.mark.parametrize("kind", KINDS)
def test_block_when_the_source_has_become_shorter_then_a_clear_error(kind: str, tmp_path: Path) -> None:
    with opened(kind, tmp_path) as source:
        os.ftruncate(source.fd, PAGE)
        context = context_of((0, 3), arg={"block": PAGE}, data=source)
        with pytest.raises(
            OSError, match='source "data": ends at 4096, but the job needs bytes up to 8193'
        ) as caught:
            find("file.xxh3").run(context, 2, 3, Recorder())
        assert caught.value.errno == errno.ENODATA


def verify(source: Source, wanted: bytes, count: int, tmp_path: Path) -> list[object]:
    with opened("memfd", tmp_path, name="expected") as expected:
        os.pwrite(expected.fd, wanted, 0)
        arg: dict[str, ArgValue] = {"block": PAGE, "algorithm": "sha256"}
        context = context_of((0, count), arg=arg, data=source, expected=expected)
        find("file.verify").prepare(context)
        _, part = find("file.verify").run(context, 0, count, Recorder())
        assert part is not None
        return list(part["items"])


def test_verify_when_a_block_has_changed_then_that_one_is_reported(tmp_path: Path) -> None:
    text = noise(3 * PAGE + 5)
    digests = [hashlib.sha256(text[start : start + PAGE]).digest() for start in range(0, len(text), PAGE)]
    with opened("file", tmp_path) as source:
        os.pwrite(source.fd, text, 0)
        fine = verify(source, b"".join(digests), 4, tmp_path)
        assert fine == [{"ok": True, "bytes": size} for size in (PAGE, PAGE, PAGE, 5)]
        os.pwrite(source.fd, b"!" if text[2 * PAGE] != 33 else b"?", 2 * PAGE)
        bad = verify(source, b"".join(digests), 4, tmp_path)
    assert [result["ok"] for result in bad] == [True, True, False, True]  # type: ignore[index]
    assert bad[2]["wanted"] == digests[2].hex() != bad[2]["digest"]  # type: ignore[index]


def test_verify_when_there_is_nothing_then_nothing_is_wrong(tmp_path: Path) -> None:
    with opened("memfd", tmp_path, name="d") as data, opened("memfd", tmp_path, name="e") as expected:
        arg: dict[str, ArgValue] = {"algorithm": "sha256", "block": 4096}
        context = Context(arg, {"data": data, "expected": expected}, {}, (0, 0), True)
        assert find("file.verify").prepare(context) == {}


def test_verify_when_digests_are_missing_then_it_does_not_begin(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        os.ftruncate(source.fd, 4 * PAGE)
        with pytest.raises(
            OSError, match='source "expected": ends at 100, but the job needs bytes up to 128'
        ):
            verify(source, b"x" * 100, 4, tmp_path)


def test_manifest_when_the_algorithm_is_unknown_then_it_does_not_begin(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        context = context_of((0, 1), arg={"algorithm": "md5", "block": PAGE}, data=source)
        with pytest.raises(OSError, match='argument "algorithm": got "md5", wanted sha256 or blake3'):
            find("file.manifest").prepare(context)


def test_wipe_when_called_then_nothing_of_a_file_stays(tmp_path: Path) -> None:
    body = Digest("sha256")
    with opened("file", tmp_path, access=Access.READ) as source:
        os.pwrite(source.fd, b"secret" * 1000, 0)
        context = Context({}, {}, {0: source}, (0, 1), True)
        body.run(context, 0, 1, Recorder(stop_after=1))
        body.run(context, 0, 1, Recorder())
    body.wipe()
    assert not any(body._reader._buffer)
    assert body._begun is None
