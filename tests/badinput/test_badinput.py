"""Bad input gets a clear error, and nothing is lost: each case of the table, on a real daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.badinput.case import Case
from tests.badinput.other import Other
from tests.badinput.shared_daemon import SharedDaemon
from tests.badinput.table import CASES, PAGE, page
from tests.badinput.world import Refused, World


def check(case: Case, shared: SharedDaemon, place: Path, other: Other | None = None) -> None:
    """Run the case; check the answer, the bytes, and that nothing is left in the daemon."""
    before = shared.look()
    with World(shared, place, other) as world:
        try:
            outcome = case.act(world)
        except Refused as refused:
            outcome = refused.refusal
        case.wanted.check(outcome, world)
        world.check_bytes()
    now = shared.check_same(before)
    accepted = case.wanted.jobs + world.extra_jobs
    assert now.accepted == before.accepted + accepted
    assert (now.newest == before.newest) == (accepted == 0)


def cases_of(*, other: bool) -> pytest.MarkDecorator:
    chosen = [pytest.param(case, id=name) for name, case in CASES.items() if case.other == other]
    return pytest.mark.parametrize("case", chosen)


@cases_of(other=False)
def test_bad_input_when_sent_then_as_the_table_says(
    case: Case, shared_daemon: SharedDaemon, tmp_path: Path
) -> None:
    check(case, shared_daemon, tmp_path)


@pytest.mark.other_uid
@cases_of(other=True)
def test_bad_input_when_sent_as_root_or_another_user_then_as_the_table_says(
    case: Case, shared_daemon: SharedDaemon, tmp_path: Path, other_user: Other
) -> None:
    check(case, shared_daemon, tmp_path, other_user)


def test_table_when_made_again_then_the_same() -> None:
    """Guards: S8"""
    assert PAGE.read_text() == page(), "run `python -m tests.badinput`"


def test_daemon_when_all_was_sent_then_no_bug_in_its_log(shared_daemon: SharedDaemon) -> None:
    _, *stories = shared_daemon.daemon.log().split("handler failed")
    # A reader that leaves while a message is under way makes grpc fail to write it.
    bugs = [story[:4000] for story in stories if "ExecuteBatchError" not in story[:4000]]
    assert not bugs, bugs[0]
