"""The tests set the signals that they need, whatever they were started from."""

from __future__ import annotations

import subprocess
import sys

from tests.support.users import REPOSITORY

CASE = "tests/client/link/test_interrupt.py::test_ctrl_c_when_the_undo_hangs_then_a_second_one_ends_the_wait"


def test_tests_when_started_in_the_background_then_ctrl_c_still_works_in_them() -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60", CASE]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT QUIT; exec \"$@\"", "sh", *words],
        check=False,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
