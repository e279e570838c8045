"""A small campaign; `make fault-test` runs more jobs."""

from __future__ import annotations

from typing import Any

from ktaskd.functions.catalogue import CATALOGUE
from tests.fault import campaign
from tests.fault.__main__ import format_report
from tests.fault.works import MAKERS, OWN

JOBS = 40

SMALL: dict[str, Any] = {"pause_s": 0.03, "recoveries": 1}
"""Every strike has something begin again, and each look at the daemon for a victim takes its time."""

STRUCK_BY_THEMSELVES = {"selftest.crash", "selftest.fail", "selftest.hang"}

OF_THE_CALLERS = {"python.calls", "python.run"}
"""In a campaign of its own; what becomes of calls is in tests/own."""


def test_own_daemon_when_its_workers_are_struck_then_the_callers_code_ends_as_it_may() -> None:
    report = campaign.run(JOBS, 7, OWN, **SMALL)
    told = format_report(report)
    assert report.violations == [], told
    assert set(report.functions) == set(OWN)
    assert report.held >= 5, told


def test_daemon_when_its_workers_are_struck_then_every_job_ends_as_it_may() -> None:
    report = campaign.run(JOBS, 7, **SMALL)
    told = format_report(report)
    assert report.violations == [], told
    assert report.functions.total() == JOBS
    assert set(report.functions) == set(MAKERS) == set(CATALOGUE) - STRUCK_BY_THEMSELVES - OF_THE_CALLERS
    assert report.held >= 5, told
    assert report.hosts.total() + report.fired.total() >= 5, told
