"""The tests set the signals that they need, whatever they were started from."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.users import REPOSITORY

CTRL_C = (
    "tests/client/link/test_interrupt.py::test_ctrl_c_when_the_undo_hangs_then_a_second_one_ends_the_wait"
)
HANGUP = (
    "tests/client/link/test_made.py::test_target_when_the_command_is_ended_by_a_signal_then_not_left[1-129]"
)


@pytest.mark.parametrize(("ignored", "case"), [("INT QUIT", CTRL_C), ("HUP", HANGUP)])
def test_tests_when_a_signal_was_ignored_where_they_were_started_then_it_still_works_in_them(
    ignored: str, case: str
) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", case]
    done = subprocess.run(
        ["sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh", *words],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
