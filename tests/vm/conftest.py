"""Boot the machine only if that is requested; print a table with a figure for each check at the end."""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = [] if os.environ.get("KTASKD_VM_TEST") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _no_leak() -> None:
    """Replace the fixture of all tests, since the machine outlives the test that boots it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each check."""
    if collect_ignore_glob:
        return
    terminalreporter.section("checks in the virtual machine")
    for outcome, word in (("passed", "PASS"), ("failed", "FAIL")):
        for report in terminalreporter.getreports(outcome):
            known = dict(report.user_properties)
            if report.when == "call" and "figure" in known:
                name = report.nodeid.rpartition("[")[2].rstrip("]").replace("_", " ")
                terminalreporter.line(
                    f"{word} {float(str(known['seconds'])):6.1f} s  {name}: {known['figure']}"
                )
