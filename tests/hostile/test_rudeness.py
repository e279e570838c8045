"""Floods of other uids: their neighbours work on, and the memory stays bounded and comes back.

`python -m tests.hostile` measures times; here nothing depends on how busy the machine is.

Guards: I12
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import BESIDE
from tests.hostile.neighbour import Neighbour
from tests.hostile.rudeness import MANY, STRANGER, known_uid, rude_process
from tests.support.real_daemon import Daemon, Stubs, until
from tests.support.users import OtherUsers

pytestmark = [pytest.mark.usefixtures("nothing_is_left"), pytest.mark.other_uid]

RESIDENT_MAX = 300 << 20
LEFT_MAX = 64 << 20
"""Memory that may remain after a load: kept jobs, and free memory between used blocks."""

FILLED, GIVEN_BACK_TO = 40 << 20, 26 << 20
"""Least memory that all kinds together take, and most that may remain: half of the initial memory."""


def resident(daemon: Daemon) -> int:
    found: int = psutil.Process(daemon.process.pid).memory_info().rss
    return found


@pytest.fixture(autouse=True)
def no_job_is_left(stubs: Stubs, nothing_is_left: None) -> Iterator[None]:
    """A detached job outlives its sender."""
    yield
    cancel_all(stubs)


def cancel_all(stubs: Stubs) -> None:
    """Cancel all accepted jobs of all users."""
    states = [pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING]
    while jobs := stubs.jobs.List(pb.ListRequest(states=states)).jobs:
        for job in jobs:
            stubs.jobs.Cancel(pb.CancelRequest(id=job.id))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resets", 25),
        ("pings", 20),
        ("settings", 20),
        ("unknown", 50),
        ("reflection", 10),
        ("halves", 200),
        ("unread-results", 5),
        ("mixture", 8),
    ],
)
def test_flood_when_a_uid_sends_it_then_others_are_served_and_memory_is_bounded(
    daemon: Daemon, neighbour: Neighbour, run_as: OtherUsers, name: str, count: int
) -> None:
    before = resident(daemon)
    with rude_process(run_as, daemon.place, name, count, [known_uid()]):
        neighbour.calm()
        assert resident(daemon) < RESIDENT_MAX
    until(lambda: resident(daemon) < before + LEFT_MAX, f"memory as before, {before >> 20} MiB")


def test_memory_when_a_uid_fills_all_kinds_of_it_then_bounded_and_given_back(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour, run_as: OtherUsers
) -> None:
    before = resident(daemon)
    with rude_process(run_as, daemon.place, "everything", 100, [known_uid()]):
        neighbour.calm()
        until(lambda: resident(daemon) > before + FILLED, "there are jobs, results, answers and requests")
        assert resident(daemon) < RESIDENT_MAX
    cancel_all(stubs)
    until(lambda: resident(daemon) < before + GIVEN_BACK_TO, f"memory as before, {before >> 20} MiB")


def test_flood_when_of_the_account_that_the_neighbour_is_in_then_it_is_served(
    daemon: Daemon, neighbour: Neighbour, run_as: OtherUsers
) -> None:
    """Neither has an entry in the machine's files: they share one account."""
    with rude_process(run_as, daemon.place, "mixture", 8, [STRANGER]):
        neighbour.calm()


def test_flood_when_of_many_uids_of_one_account_then_others_are_served(
    daemon: Daemon, neighbour: Neighbour, run_as: OtherUsers
) -> None:
    assert BESIDE not in MANY
    with rude_process(run_as, daemon.place, "mixture", 2, MANY[:20]):
        neighbour.calm()
        assert resident(daemon) < RESIDENT_MAX
