"""Functions whose workers hold leases can be stopped after any quantum, and keep to the size of it.

Tests: ktaskd/functions/catalogue.py, ktaskd/functions/bodies.py, ktaskd/worker/control.py
Guards: I1
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ktaskd.functions.bodies import find
from ktaskd.functions.catalogue import CATALOGUE
from tests.functions.inprocess import MIB, take_turns
from tests.functions.leased import LEASED, Divided, in_one_piece, in_steps, job_of, size_of, text_of

KINDS = ("sealed", "file")
STARTS = (0, 8, 3 * MIB + 72)
CASES = [
    (name, kind)
    for name in LEASED
    for kind in KINDS
    if kind == "sealed" or not any(role.memory_only for role in CATALOGUE[name].sources)
]


@pytest.fixture(autouse=True)
def one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are written without a mapping are not counted, so the way must not depend on the time."""
    take_turns(monkeypatch, 0)


def test_declarations_when_with_leases_then_they_can_be_cut_anywhere() -> None:
    assert len(LEASED) > 10
    for name in LEASED:
        declaration = CATALOGUE[name]
        assert declaration.quantum % max(declaration.align, 1) == 0
        assert not declaration.open_ended
        assert not declaration.whole_files


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("start", STARTS)
def test_body_when_stopped_again_and_again_then_as_in_one_piece_and_no_step_is_too_long(
    name: str, kind: str, start: int, tmp_path: Path
) -> None:
    declaration, body = CATALOGUE[name], find(name)
    size = start + size_of(declaration)
    with job_of(declaration, kind, tmp_path, size, start) as context:
        expected = in_one_piece(body, declaration, context)
    for seed in range(2):
        with job_of(declaration, kind, tmp_path, size, start) as context:
            assert in_steps(body, declaration, context, Random(seed)) == expected


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_leases_when_divided_at_any_moment_then_as_in_one_piece(name: str, kind: str, tmp_path: Path) -> None:
    declaration = CATALOGUE[name]
    size = size_of(declaration)
    with job_of(declaration, kind, tmp_path, size) as context:
        expected = in_one_piece(find(name), declaration, context)
    for seed in range(4):
        with job_of(declaration, kind, tmp_path, size) as context:
            divided = Divided(name, context, Random(seed))
            assert divided.run() == expected


@pytest.mark.parametrize("seed", range(10))
def test_search_when_lines_are_longer_than_a_quantum_then_each_is_found_once(
    seed: int, tmp_path: Path
) -> None:
    """The begin of the next line is beyond the claim, and may be beyond a new end."""
    declaration, random = CATALOGUE["text.search"], Random(seed)
    text = text_of(6 * MIB, long_lines=True)
    with job_of(declaration, "file", tmp_path, len(text), data=text) as context:
        expected = in_one_piece(find("text.search"), declaration, context)
        divided = Divided("text.search", context, random)
        assert divided.run() == expected
    assert expected["result"]["count"] == text.count(b"needle")


@pytest.mark.parametrize("seed", range(10))
def test_compare_when_there_are_differences_then_the_first_and_all_bytes(seed: int, tmp_path: Path) -> None:
    """After a difference nothing is compared any more, but the rest is only looked at as the lease allows."""
    declaration, random = CATALOGUE["file.compare"], Random(seed)
    size = size_of(declaration)
    place = random.randrange(size)
    other = bytearray(text_of(size))
    other[place] ^= 1
    with job_of(declaration, "file", tmp_path, size, b=bytes(other)) as context:
        divided = Divided("file.compare", context, random)
        assert divided.run()["result"] == {"equal": False, "first_difference": place, "bytes": size}
