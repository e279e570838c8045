"""Fixtures: the daemon that all cases share, and another user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.badinput.other import Other, living
from tests.badinput.shared_daemon import SharedDaemon, opened
from tests.support.users import OtherUsers, reachable_directory


@pytest.fixture(scope="session")
def shared_daemon() -> Iterator[SharedDaemon]:
    """A daemon for these tests alone."""
    with reachable_directory() as place, opened(place) as shared:
        yield shared


@pytest.fixture(scope="session")
def other_user(shared_daemon: SharedDaemon, run_as: OtherUsers) -> Iterator[Other]:
    """Another user, connected to that daemon."""
    with living(shared_daemon, run_as) as other:
        yield other
