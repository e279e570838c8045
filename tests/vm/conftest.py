"""The machine is booted only where it was asked for; the table at the end has a figure for each check."""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = [] if os.environ.get("KTASKD_VM_TEST") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def _no_leak() -> None:
    """In place of the fixture of all tests: the machine outlives the test that boots it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each check."""
    if collect_ignore_glob:
        return
    terminalreporter.section("checks in the virtual machine")
    for outcome, word in (("passed", "PASS"), ("failed", "FAIL")):
        for report in terminalreporter.getreports(outcome):
            told = dict(report.user_properties)
            if report.when == "call" and "figure" in told:
                name = report.nodeid.rpartition("[")[2].rstrip("]").replace("_", " ")
                terminalreporter.line(
                    f"{word} {float(str(told['seconds'])):6.1f} s  {name}: {told['figure']}"
                )
