"""The fast tests leave out the listed paths, and each of those exists."""

from __future__ import annotations

import pytest

from tests.support.slow import SLOW, is_slow
from tests.support.users import REPOSITORY


def test_slow_when_listed_then_each_path_is_there() -> None:
    assert not [path for path in SLOW if not (REPOSITORY / path).exists()]


@pytest.mark.parametrize(
    ("nodeid", "slow"),
    [
        ("tests/fault/test_matrix.py::test_a", True),
        ("tests/fault/works/test_b.py::test_a[x]", True),
        ("tests/arch/test_lint.py::test_types", True),
        ("tests/arch/test_lint_more.py::test_types", False),
        ("tests/faults/test_matrix.py::test_a", False),
        ("tests/planner/test_plan.py::test_a", False),
    ],
)
def test_is_slow_when_asked_then_by_the_path(nodeid: str, slow: bool) -> None:
    assert is_slow(nodeid) == slow


def test_marker_when_a_test_lies_in_such_a_directory_then_it_has_it(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        assert not is_slow(item.nodeid) or item.get_closest_marker("slow"), item.nodeid
