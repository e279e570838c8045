"""The bad files among many are found, whatever the daemon reports. No daemon."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.cli.batches import Opened, Result, Unreadable, each, min_chunk, open_file
from ktask.cli.replacement import Replacement
from ktask.errors import KtaskError


def refusal(reason: str, field: str = "", code: str = "FAILED_PRECONDITION") -> KtaskError:
    return KtaskError(f"items[0]: bad ({reason})", code=code, reason=reason, field=field)


@given(st.integers(0, 40), st.sets(st.integers(0, 39)), st.booleans())
def test_each_when_some_are_bad_then_they_and_no_others(count: int, bad: set[int], exact: bool) -> None:
    tries: Counter[int] = Counter()

    def run(numbers: range) -> list[Result]:
        found = [i for i, number in enumerate(numbers) if number in bad]
        if found:
            raise refusal("FD_UNSUITABLE", f"spec.items[{found[0]}]" if exact else "")
        tries.update(numbers)
        return [{"digest": str(number)} for number in numbers]

    results = each(run, range(count))
    assert len(results) == count
    for number, result in enumerate(results):
        wanted = Unreadable("bad (FD_UNSUITABLE)") if number in bad else {"digest": str(number)}
        assert result == wanted
    assert all(tries[number] == 1 for number in range(count) if number not in bad)


def test_each_when_there_is_room_for_few_then_fewer_at_one_time() -> None:
    def run(numbers: range) -> list[Result]:
        if len(numbers) > 3:
            raise refusal("QUOTA_FULL", code="RESOURCE_EXHAUSTED")
        return [{"n": number} for number in numbers]

    assert each(run, range(20)) == [{"n": number} for number in range(20)]


@pytest.mark.parametrize("reason", ["UNAVAILABLE", "DRAINING", "NOT_ALLOWED", "SHUTDOWN"])
def test_each_when_the_daemon_is_why_then_no_file_is_blamed(reason: str) -> None:
    calls = []

    def run(numbers: range) -> list[Result]:
        calls.append(numbers)
        raise refusal(reason, code="UNAVAILABLE")

    with pytest.raises(KtaskError):
        each(run, range(20))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [((0,) * 100, 64), ((4096,) * 10, 64), ((1 << 20,) * 10, 4), ((3 << 20,) * 10, 1), ((1 << 30, 0), 1)],
)
def test_min_chunk_when_files_are_small_then_many_of_them(
    tmp_path: Path, sizes: tuple[int, ...], wanted: int
) -> None:
    with contextlib.ExitStack() as end:
        opened = []
        for i, size in enumerate(sizes):
            (tmp_path / str(i)).touch()
            os.truncate(tmp_path / str(i), size)
            opened.append(Opened(i, open_file(os.fsencode(tmp_path / str(i)), end)))
        assert min_chunk(opened) == wanted


def test_replacement_when_not_complete_then_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("before")
    with Replacement(str(path)) as new:
        new.file.write(b"half")
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["list"])
    with pytest.raises(KeyboardInterrupt), Replacement(str(path)) as new:
        new.file.write(b"half")
        raise KeyboardInterrupt
    assert (path.read_text(), os.listdir(tmp_path)) == ("before", ["list"])
    with Replacement(str(path)) as new:
        new.file.write(b"whole")
        new.complete()
    assert (path.read_text(), os.listdir(tmp_path)) == ("whole", ["list"])


def test_replacement_when_it_cannot_be_made_then_the_error_has_its_own_name(tmp_path: Path) -> None:
    path = str(tmp_path / "nosuch" / "new")
    with pytest.raises(FileNotFoundError) as caught, Replacement(path):
        pass
    assert caught.value.filename == path
