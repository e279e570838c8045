"""Fixtures: the daemon that all cases share, and another user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.badinput.house import House, opened
from tests.badinput.other import Other, living
from tests.support.users import OtherUsers, reachable_directory


@pytest.fixture(scope="session")
def bad_house() -> Iterator[House]:
    """A daemon for these tests alone."""
    with reachable_directory() as place, opened(place) as house:
        yield house


@pytest.fixture(scope="session")
def other_user(bad_house: House, run_as: OtherUsers) -> Iterator[Other]:
    """Another user, connected to that daemon."""
    with living(bad_house, run_as) as other:
        yield other
