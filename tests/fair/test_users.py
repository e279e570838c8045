"""Real clients of several uids on a real daemon: equal shares, and nobody can fill what is another's."""

from __future__ import annotations

import pytest

from tests.fair.users import a_daemon, measure, table, worst
from tests.support.users import OtherUsers

pytestmark = pytest.mark.other_uid

TOLERANCE = 0.2
"""In a few seconds a chunk more or less counts; the longer run is held to half of it."""


def test_uids_when_their_jobs_differ_then_equal_shares(run_as: OtherUsers) -> None:
    with a_daemon() as daemon:
        shares = measure(run_as, daemon, clients=8, seconds=8.0)
    print(table(shares))
    assert worst(shares) <= TOLERANCE, table(shares)
