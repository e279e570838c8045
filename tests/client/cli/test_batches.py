"""The bad files among many are found, whatever the daemon reports. No daemon."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.cli.batches import Result, Unreadable, batches, each
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


def test_batches_when_taken_then_each_file_once_in_order_and_closed(tmp_path: Path) -> None:
    names = [os.fsencode(tmp_path / f"{i}") for i in range(1100)]
    for name in names[::2]:
        Path(os.fsdecode(name)).touch()
    before, seen = len(os.listdir("/proc/self/fd")), list[bytes]()
    for batch in batches(names, lambda name: name):
        with batch as opened:
            seen += [one.asked for one in opened]
            assert all((one.file is not None) == (one.problem == "") for one in opened)
            assert sum(one.file is not None for one in opened) <= 500
        assert len(os.listdir("/proc/self/fd")) == before
    assert seen == names


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
