"""A verb gives the bytes, the exit status and the files of the program that it imitates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.real_daemon import running
from tests.verbs.cases import CASES
from tests.verbs.model import Case, run
from tests.verbs.page import PAGE, page

EACH = [
    pytest.param(case, id=f"{verb}-{re.sub('[^a-z0-9]+', '-', case.title.lower())}")
    for verb, cases in CASES.items()
    for case in cases
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a daemon that serves all cases."""
    with running(tmp_path_factory.mktemp("verbs") / "d") as found:
        yield found.place


@pytest.mark.parametrize("case", EACH)
def test_verb_when_run_beside_its_model_then_the_same(case: Case, daemon: Path, tmp_path: Path) -> None:
    if case.missing:
        pytest.skip(f"there is no {' and no '.join(case.missing)}")
    wanted, their_messages = run(case, case.model, tmp_path / "model", daemon)
    got, our_messages = run(case, case.ours, tmp_path / "ours", daemon)
    if case.differs:
        assert got != wanted, "no longer differs: remove the reason"
    else:
        assert got == wanted, f"model: {their_messages}\nours: {our_messages}"


def test_cases_when_listed_then_each_has_a_name_of_its_own() -> None:
    for verb, cases in CASES.items():
        names = [case.title for case in cases]
        assert len(set(names)) == len(names), verb


def test_page_when_compared_with_the_cases_then_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.verbs"
