"""file.warm reports the same bytes in the page cache as fincore(1)."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context, Json
from ktaskd.functions.quanta import QUANTUM
from ktaskd.model.function import Access, ArgValue
from ktaskd.worker.sources import Source
from tests.functions.inprocess import KINDS, MIB, PAGE, Recorder, context_of, fit, opened
from tests.support.sources import facts_of

BODY = find("file.warm")
WARM: dict[str, ArgValue] = {"drop": False, "window": 0}
DROP: dict[str, ArgValue] = {"drop": True, "window": 0}


@contextmanager
def file(path: Path, size: int, *, own_offset: bool = True) -> Iterator[Source]:
    """A file of this length that is on disk and not in memory."""
    path.write_bytes(b"x" * size)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    source = Source(fd, facts_of(fd, own_offset=own_offset, access=Access.READ))
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield source
    finally:
        source.close()


def run(source: Source, arg: dict[str, ArgValue], edges: list[int]) -> Json:
    context = context_of((edges[0], edges[-1]), arg=arg, data=source)
    parts = []
    for start, end in pairwise(edges):
        reached, part = BODY.run(context, start, end, Recorder())
        assert reached == end
        assert part is not None
        parts.append(part)
    return BODY.combine(context, parts)


def resident(path: Path) -> int:
    """Bytes in memory according to fincore, in whole pages."""
    if shutil.which("fincore") is None:
        pytest.skip("needs fincore, to compare with")
    done = subprocess.run(["fincore", "-nbo", "RES", path], capture_output=True, text=True, check=True)
    return int(done.stdout)


def needs_cold(path: Path) -> None:
    if resident(path):
        pytest.skip("a page cache that drops what it is asked to")


@pytest.mark.parametrize("size", [0, 1, PAGE - 1, PAGE, PAGE + 1, QUANTUM - 1, QUANTUM + 1])
def test_file_when_warmed_then_in_memory_and_when_dropped_then_not(size: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    with file(path, size) as source:
        needs_cold(path)
        answer = run(source, WARM, [0, size])
        assert answer == {"bytes": size, "skipped": 0, "resident_before": 0, "resident_after": size}
        assert resident(path) == -(-size // PAGE) * PAGE
        assert run(source, WARM, [0, size])["resident_before"] == size
        answer = run(source, DROP, [0, size])
        assert answer == {"bytes": size, "skipped": 0, "resident_before": size, "resident_after": 0}
        assert resident(path) == 0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_file_when_cut_anywhere_then_the_same_counts(tmp_path: Path, data: st.DataObject) -> None:
    size = 5 * MIB + 77
    pages = st.integers(0, 5 * MIB // PAGE)
    edges = sorted({0, size, *(page * PAGE for page in data.draw(st.lists(pages, max_size=4)))})
    window = data.draw(st.sampled_from([0, 1, PAGE, MIB]) | st.integers(0, 6 * MIB))
    path = tmp_path / "f"
    with file(path, size) as source:
        needs_cold(path)
        answer = run(source, {"drop": False, "window": window}, edges)
        read = min(window, size) if window else size
        assert (answer["bytes"], answer["skipped"]) == (read, size - read)
        assert answer["resident_before"] == 0
        # Exactly the pages of the window.
        assert resident(path) == -(-read // PAGE) * PAGE
        assert answer["resident_after"] == min(resident(path), size)


def test_span_when_warmed_then_nothing_else_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with file(path, 8 * MIB) as source:
        needs_cold(path)
        answer = run(source, WARM, [MIB, 3 * MIB])
        assert answer["resident_after"] == 2 * MIB == resident(path)


@pytest.mark.parametrize("kind", KINDS)
def test_holes_when_warmed_then_they_stay_and_are_not_read(kind: str, tmp_path: Path) -> None:
    size = 4 << 30
    with opened(kind, tmp_path, own_offset=True) as source:
        os.ftruncate(source.fd, size)
        os.pwrite(source.fd, b"x" * PAGE, size // 2)
        fit(source, kind, size)
        blocks = os.fstat(source.fd).st_blocks
        answer = run(source, {"drop": False, "window": size}, [0, size])
        assert (answer["bytes"], answer["skipped"]) == (size, 0)
        assert answer["resident_after"] in {PAGE, None}
        assert os.fstat(source.fd).st_blocks == blocks


def test_items_when_warmed_then_one_result_each_and_the_window_is_of_each(tmp_path: Path) -> None:
    with file(tmp_path / "a", MIB) as a, file(tmp_path / "b", 3 * MIB) as b:
        items = {5: a, 6: b, **dict.fromkeys(range(7, 300), a)}
        context = Context({"drop": False, "window": 2 * MIB}, {}, items, (5, 300), True)
        assert BODY.run(context, 5, 7, Recorder(stop_after=1))[0] == 5
        reached, part = BODY.run(context, 5, 300, Recorder())
        assert part is not None
        assert reached == 5 + len(part["items"]) < 300
        assert [(one["bytes"], one["skipped"]) for one in part["items"][:2]] == [(MIB, 0), (2 * MIB, MIB)]


def test_window_when_not_said_then_three_quarters_of_what_is_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file(tmp_path / "f", 4 * MIB) as source:
        room = source.cache_room()
        assert room is not None
        assert 0 < room < 1 << 50
        monkeypatch.setattr(source, "cache_room", lambda: 4 * MIB)
        answer = run(source, WARM, [0, MIB, 4 * MIB])
        assert (answer["bytes"], answer["skipped"]) == (3 * MIB, MIB)
        monkeypatch.setattr(source, "cache_room", lambda: None)
        assert run(source, WARM, [0, 4 * MIB])["skipped"] == 0


def test_resident_when_the_kernel_does_not_say_then_null_and_the_rest_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file(tmp_path / "f", MIB) as source:
        monkeypatch.setattr(source, "resident", lambda start, end: None)
        assert run(source, WARM, [0, PAGE, MIB]) == {
            "bytes": MIB,
            "skipped": 0,
            "resident_before": None,
            "resident_after": None,
        }


def test_resident_when_without_cachestat_then_the_same_of_sealed_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ktaskd.host.memory import pagecache

    def refuse(fd: int, start: int, end: int) -> int:
        raise OSError(errno.ENOSYS, "cachestat")

    with opened("sealed", tmp_path) as source, opened("file", tmp_path) as disk:
        os.ftruncate(source.fd, 6 * PAGE)
        os.pwrite(source.fd, b"x" * PAGE, PAGE)
        fit(source, "sealed", 6 * PAGE)
        fit(disk, "file", 6 * PAGE)
        assert [source.resident(0, 6 * PAGE), source.resident(PAGE, PAGE + 3)] == [PAGE, 3]
        monkeypatch.setattr(pagecache, "read_resident", refuse)
        assert [source.resident(0, 6 * PAGE), source.resident(PAGE, PAGE + 3)] == [PAGE, 3]
        assert disk.resident(0, 6 * PAGE) is None


def test_file_when_truncated_meanwhile_then_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with file(path, 3 * QUANTUM) as source:
        context = context_of((0, 3 * QUANTUM), arg=WARM, data=source)
        control = Recorder(on_quantum=lambda at: os.truncate(path, QUANTUM + 5) if at == QUANTUM else None)
        with pytest.raises(OSError, match=r'source "data": ends at') as caught:
            BODY.run(context, 0, 3 * QUANTUM, control)
        assert caught.value.errno == errno.ENODATA


def test_chunk_when_recalled_then_the_counts_are_of_what_was_reached(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with file(path, 3 * QUANTUM) as source:
        needs_cold(path)
        context = context_of((0, 3 * QUANTUM), arg=WARM, data=source)
        reached, part = BODY.run(context, 0, 3 * QUANTUM, Recorder(stop_after=2))
        assert reached == 2 * QUANTUM
        assert part == {"bytes": reached, "skipped": 0, "resident_before": 0, "resident_after": reached}
        assert resident(path) == reached
