"""Text for people: tables, descriptions, the bar."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask import convert
from ktask.cli import text
from ktask.cli.bar import bar
from ktask.cli.escaping import printable
from ktask.results import Job
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake_messages import FUNCTIONS, a_status


def a_job(done: int = 0, total: int = 0, **fields: object) -> Job:
    message = pb.Job(id="abc", state=pb.JOB_STATE_RUNNING)
    message.spec.function = "mem.fill"
    message.progress.positions_done = done
    message.progress.positions_total = total
    message.MergeFrom(pb.Job(**fields))  # type: ignore[arg-type]
    return convert.job(message)


def test_bar_when_half_done_then_half_full_with_rate_and_time_left() -> None:
    job = a_job(50, 100, progress=pb.Progress(bytes_done=50 << 20, running_helpers=1, running_leads=1))
    line = bar(job, 2.0, 81)
    assert line.startswith("mem.fill  50% [#")
    assert line.endswith(" 2 workers 25.0 MiB/s 2.00 s left")
    assert len(line) == 81
    assert line.count("#") == line.count("-")


def test_bar_when_not_running_then_it_shows_the_state_and_why() -> None:
    job = a_job(0, 100, state=pb.JOB_STATE_QUEUED, waiting_reasons=[pb.Reason(code="LEAD_LIMIT")])
    assert bar(job, 1.0, 60).endswith("] queued LEAD_LIMIT")


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.floats(0, 1e9),
    st.integers(0, 300),
    st.sampled_from(sorted(pb.JobState.values())),
)
def test_bar_when_anything_then_never_wider_than_allowed(
    done: int, total: int, elapsed: float, width: int, state: pb.JobState.ValueType
) -> None:
    line = bar(a_job(done, total, state=state), elapsed, width)
    assert len(line) <= width
    assert line.isprintable()


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (1 << 63, "8192.0 PiB")],
)
def test_bytes_when_written_then_with_a_binary_unit(count: int, said: str) -> None:
    assert text.format_bytes(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.254, "0.25 s"), (12.4, "12 s"), (125, "2 min 5 s"), (7500, "2 h 5 min")]
)
def test_duration_when_written_then_in_fitting_units(seconds: float, said: str) -> None:
    assert text.format_duration(seconds) == said


@given(st.text() | st.just("\x1b[2J\x07\udcff"))
def test_printable_when_anything_then_it_steers_no_terminal(given_text: str) -> None:
    shown = printable(given_text)
    assert shown.isprintable()
    shown.encode()


def test_table_when_printed_then_in_columns() -> None:
    assert text.table(("A", "B"), [("long one", 1), ("x", "\n")]) == "A         B\nlong one  1\nx         \\n"


def test_result_when_with_items_then_a_line_for_each() -> None:
    shown = text.format_result({"items": [{"crc32": 1, "bytes": 2}, {"ok": True}], "total": 3})
    assert shown == "0: bytes=2 crc32=1\n1: ok=true\ntotal: 3"
    assert text.format_result(None) == ""


def test_jobs_when_listed_then_done_and_age() -> None:
    job = a_job(1, 4)
    job = a_job(1, 4, create_time=datetime(2026, 1, 1, tzinfo=UTC), spec=pb.JobSpec(function="evil\x1b"))
    lines = text.list_jobs([job], datetime(2026, 1, 1, 0, 1, tzinfo=UTC)).splitlines()
    assert lines[0].split() == ["ID", "STATE", "FUNCTION", "DONE", "AGE", "TOOK", "UID"]
    assert lines[1].split() == ["abc", "RUNNING", "evil\\x1b", "25%", "1", "min", "0", "s", "-", "0"]


def test_job_when_failed_then_all_of_it_is_said() -> None:
    job = a_job(
        state=pb.JOB_STATE_DIRTY,
        error=pb.JobError(
            reason="WORKER_LOST",
            message="gone",
            exception="Trace\nback",
            dirty=[pb.Span(start=1, end=2)] * 20,
            dirty_omitted=100,
            dirty_hull=pb.Span(start=1, end=77),
        ),
        plan=pb.Plan(threads=2, chunk=4),
        waiting_reasons=[pb.Reason(code="X", message="why", value="1", threshold="2")],
    )
    shown = text.describe_job(job)
    for words in (
        "DIRTY",
        "WORKER_LOST: gone",
        "and 112 more, all between 1 and 77",
        "Trace\\nback",
        "2 workers",
        "X: why (1, threshold 2)",
    ):
        assert words in shown


def test_job_when_its_spec_is_abridged_then_all_of_it_is_counted() -> None:
    spec = pb.JobSpec(function="f", items=[pb.Source(handle="h")] * 3, items_omitted=97)
    spec.ranges.extend([pb.Range(start=i, length=1) for i in range(9)])
    spec.ranges_omitted = 91
    job = a_job(spec=spec)
    assert (job.spec.items_omitted, job.spec.ranges_omitted) == (97, 91)
    shown = text.describe_job(job)
    assert "100" in shown
    assert "and 92 more" in shown


def test_functions_when_described_then_everything_declared() -> None:
    shown = text.describe_function(convert.function(FUNCTIONS[2]))
    for words in ("file.copy", "source src:", "read. The src.", "written. The dst.", "Holes come back."):
        assert words in shown
    shown = text.describe_function(convert.function(FUNCTIONS[3]))
    assert "must be given" in shown
    assert "default 0.5" in shown
    assert "default false" in shown


def test_status_when_described_then_pools_workers_and_what_they_lack(tmp_path: Path) -> None:
    shown = text.describe_status(convert.status(a_status(tmp_path)))
    for words in (
        "8.0 GiB",
        "pool node0: helpers",
        "worker 1 lacks: cpu.idle",
        "missing: systemd-python",
        "because: ON_BATTERY: on battery (30 %)",
        "allowance: fewer helpers\n",
        "node 0: 2 helpers, 1 busy; 2 leads, 1 for one user",
        "battery: 30 % (/sys/class/power_supply)",
        "helpers raised by: autogroup nice 0",
        "idle, raised",
        "idle cgroup",
        "jobs_queued:",
        "prefer:0",
        "5.0 MiB",
    ):
        assert words in shown


def test_status_when_the_daemon_is_another_version_then_all_the_same(tmp_path: Path) -> None:
    message = a_status(tmp_path)
    message.ClearField("raising")
    message.allowance.level = 9  # type: ignore[assignment]
    message.mode = 7  # type: ignore[assignment]
    shown = text.describe_status(convert.status(message))
    assert "no method here" in shown
    assert "allowance: 9\n" in shown
    assert "7\n" in shown


def test_mode_when_it_ends_then_said(tmp_path: Path) -> None:
    message = a_status(tmp_path)
    assert text.format_mode(convert.status(message)) == "auto"
    message.mode_until.FromSeconds(1_800_000_000)
    shown = text.format_mode(convert.status(message))
    assert shown == f"auto until {text.format_time(datetime.fromtimestamp(1_800_000_000, UTC))}"


def test_job_when_kept_going_then_what_was_done_for_it() -> None:
    cpu = pb.CpuUsage(lead_seconds=1, chunks_recalled=3, chunks_rerun=2, chunks_run_twice=4, helpers_raised=1)
    shown = text.describe_job(a_job(cpu=cpu))
    assert "chunks recalled: 3, chunks run again: 2, chunks run twice: 4, helpers raised: 1" in shown
    assert "chunks recalled" not in text.describe_job(a_job())
