"""A small campaign: what `make fault-test` does with more jobs."""

from __future__ import annotations

from tests.fault import campaign
from tests.fault.__main__ import format_report
from tests.fault.work import MAKERS

JOBS = 40


def test_daemon_when_its_workers_are_struck_then_every_job_ends_as_it_may() -> None:
    report = campaign.run(JOBS, seed=7)
    told = format_report(report)
    assert report.violations == [], told
    assert report.endings.total() == JOBS
    assert {kind for kind, _ in report.endings} == {maker.__name__ for maker in MAKERS}
    assert report.held >= 5, told
    assert report.hosts.total() + report.fired.total() >= 5, told
