"""The metrics of a real daemon, as a scraper and a textfile collector read them.

Tests: ktaskd/daemon/metering.py, ktaskd/metrics/reading.py
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.v1 import jobs_pb2 as pb
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from tests.metrics.sample import parsed, sample
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    refused,
    running,
    spec,
    spin,
    until,
    write_config,
)

pytestmark = pytest.mark.slow

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    place = tmp_path_factory.mktemp("m")
    settings = {
        "socket": os.fspath(place / "run" / "metrics.sock"),
        "textfile": os.fspath(place / "k.prom"),
        "interval_s": 1,
    }
    config = write_config(place / "ktaskd.toml", metrics=settings)
    with running(place / "run", "--config", config) as daemon:
        yield daemon
    assert not (place / "k.prom").exists()


@pytest.fixture
def stubs(measured: Daemon) -> Iterator[Stubs]:
    with connected(measured.socket) as made:
        yield made


class Connection(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.fspath(self.path))


def scraped(daemon: Daemon) -> dict[str, Family]:
    connection = Connection(daemon.place / "metrics.sock")
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    wanted = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (answer.status, answer.headers["Content-Type"]) == (200, wanted)
    families = parsed(answer.read())
    connection.close()
    return families


def total(families: dict[str, Family], name: str, **labels: str) -> float:
    return float(
        sum(
            one.value
            for family in families.values()
            for one in family.samples
            if one.name == name and labels.items() <= one.labels.items()
        )
    )


def counted(daemon: Daemon, name: str, wanted: float, **labels: str) -> None:
    """Scrape until the counter has the value: the text is made again once a second."""
    until(lambda: total(scraped(daemon), name, **labels) == wanted, f"{name} is {wanted}")


def test_scrape_when_jobs_have_ended_then_they_are_counted(measured: Daemon, stubs: Stubs) -> None:
    before = scraped(measured)
    job = stubs.jobs.Run(pb.RunRequest(spec=spin(50, 1)), timeout=PATIENCE_S).job
    refused(stubs.jobs.Run, pb.RunRequest(spec=spec("no.such")))
    function, ended = job.spec.function, "ktaskd_jobs_ended_total"
    succeeded = total(before, ended, function=function, outcome="succeeded")
    counted(measured, ended, succeeded + 1, function=function, outcome="succeeded")
    after = scraped(measured)
    assert total(after, ended) == total(before, ended) + 1
    assert total(after, "ktaskd_cpu_seconds_total") > total(before, "ktaskd_cpu_seconds_total")
    assert total(after, "ktaskd_job_run_seconds_count", function=function) >= 1
    assert sample(after, "ktaskd_connections", socket="grpc") >= 1
    assert sample(after, "ktaskd_process_resident_bytes") > 1e6
    assert total(after, "ktaskd_workers") >= 1
    assert total(after, "ktaskd_allowance_level") == 1


def test_scrape_when_a_job_runs_then_its_work_counts_before_its_end(measured: Daemon, stubs: Stubs) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(100_000, 1)), timeout=PATIENCE_S).job
    try:
        counted(measured, "ktaskd_jobs", 1, state="running")
        before = total(scraped(measured), "ktaskd_cpu_seconds_total")
        until(lambda: total(scraped(measured), "ktaskd_cpu_seconds_total") > before, "CPU time counts")
    finally:
        stubs.jobs.Cancel(pb.CancelRequest(id=job.id), timeout=PATIENCE_S)
    counted(measured, "ktaskd_jobs", 0, state="running")
    assert total(scraped(measured), "ktaskd_jobs_ended_total", outcome="cancelled") >= 1


def test_textfile_when_read_then_the_same_metrics_in_the_other_format(measured: Daemon) -> None:
    path = measured.place.parent / "k.prom"
    until(path.exists, "the file is written")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    names = {family.name for family in parse_prometheus(path.read_text())}
    assert names == set(scraped(measured))
    first = path.stat().st_ino
    until(lambda: path.stat().st_ino != first, "the file is written again")


def test_log_when_a_call_has_a_trace_then_both_lines_of_its_job_have_it(
    measured: Daemon, stubs: Stubs
) -> None:
    metadata = (("traceparent", PARENT), ("tracestate", "vendor=1"))
    job = stubs.jobs.Run(pb.RunRequest(spec=spin(5, 1)), timeout=PATIENCE_S, metadata=metadata).job
    until(lambda: f"job_ended job={job.id}" in measured.log(), "the end is logged")
    lines = [line for line in measured.log().splitlines() if f"job={job.id}" in line]
    assert [re.findall(r" (job_\w+) ", line)[0] for line in lines] == ["job_started", "job_ended"]
    assert all(" trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 " in one for one in lines)
    assert 'trace_state="vendor=1"' in lines[0]
    assert f" pid={os.getpid()} " in lines[1]


def test_library_when_nothing_is_configured_then_not_loaded() -> None:
    code = "import sys, ktaskd.daemon.life; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_daemon_when_the_socket_cannot_be_made_then_it_runs_and_says_so(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.toml", metrics={"socket": os.fspath(tmp_path / "none" / "m.sock")})
    with running(tmp_path / "run", "--config", config) as daemon, connected(daemon.socket) as stubs:
        assert 'metrics_not_served error="metrics.socket: ' in daemon.log()
        assert "No such file or directory" in daemon.log()
        job = stubs.jobs.Run(pb.RunRequest(spec=spin(5, 1)), timeout=PATIENCE_S).job
        assert job.state == pb.JOB_STATE_SUCCEEDED
