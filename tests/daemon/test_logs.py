"""Log lines have a time and a level, unless the journal adds both."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.logline import format_line, format_time
from ktaskd.pool.starting import environment
from tests.support.real_daemon import running

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
LINE = re.compile(rf"{TIME} (DEBUG|INFO|WARNING|ERROR) ktaskd(\.\w+)* .+")
UNTIMED = re.compile(r"(DEBUG|INFO|WARNING|ERROR) ktaskd(\.\w+)* .+")
PROCESSES = [
    ["-m", "ktaskd.door.handoff.keeper", "4095", str(os.getpid())],
    ["-m", "ktaskd.pool.host", "4095", "node0"],
    ["-c", "from ktaskd.host import logline; logline.report('ktaskd.worker', 'killed pid=1', 'WARNING')"],
    [
        "-c",
        "from ktaskd.host import logline\n"
        "try: 1 / 0\n"
        "except ArithmeticError as error: logline.report_exception('ktaskd.worker', error)",
    ],
]
"""Our processes without logging, each with something to report."""


@given(st.floats(min_value=0, max_value=4e9))
def test_time_when_formatted_then_the_same_moment_with_its_offset(when_s: float) -> None:
    text = format_time(when_s)
    assert re.fullmatch(TIME, text)
    assert abs(datetime.fromisoformat(text).timestamp() - when_s) <= 0.001


def test_line_when_it_has_no_time_then_it_begins_with_the_level() -> None:
    assert format_line("INFO", "ktaskd.x", "ready dir=/run", None) == "INFO ktaskd.x ready dir=/run"


def written_to(stream: str, command: list[str], path: Path) -> list[str]:
    """Return what a program writes to a file as its standard error; `stream` is its JOURNAL_STREAM."""
    with path.open("w") as err:
        status = os.fstat(err.fileno())
        place = f"{status.st_dev}:{status.st_ino}"
        environ = {**os.environ, "JOURNAL_STREAM": stream.format(place=place)}
        subprocess.run([sys.executable, *command], stderr=err, env=environ, check=False)
    return path.read_text().splitlines()


@pytest.mark.parametrize("command", PROCESSES, ids=lambda words: words[1][:24])
@pytest.mark.parametrize(
    ("stream", "wanted"),
    [("", LINE), ("1:1", LINE), ("{place}", UNTIMED)],
    ids=["file", "redirected", "journal"],
)
def test_process_when_it_reports_then_the_time_unless_the_journal_adds_it(
    tmp_path: Path, command: list[str], stream: str, wanted: re.Pattern[str]
) -> None:
    first, *below = written_to(stream, command, tmp_path / "err")
    assert wanted.fullmatch(first)
    assert not below or below[0].startswith("Traceback ")


@pytest.mark.parametrize(("same", "wanted"), [(False, LINE), (True, UNTIMED)], ids=["file", "journal"])
def test_daemon_when_it_logs_then_each_line_has_the_time_unless_the_journal_adds_it(
    tmp_path: Path, same: bool, wanted: re.Pattern[str]
) -> None:
    """If the journal cannot be reached, lines go to standard error, as without its library."""

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        status = os.fstat(options["stderr"].fileno())  # type: ignore[attr-defined]
        stream = f"{status.st_dev}:{status.st_ino if same else 1}"
        environ = {**os.environ, "JOURNAL_STREAM": stream}
        return subprocess.Popen(command, env=environ, **options)  # type: ignore[call-overload,no-any-return]

    with running(tmp_path / "run", popen=popen) as daemon:
        pass
    lines = daemon.log().splitlines()
    assert any(" ready dir=" in line for line in lines)
    assert any(" stopping jobs_left=0" in line for line in lines)
    assert [line for line in lines if not wanted.fullmatch(line)] == []


def test_pool_host_when_started_then_it_knows_which_stream_is_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    assert environment(erase=False)["JOURNAL_STREAM"] == "8:1234"


def test_report_when_nobody_reads_it_then_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; from ktaskd.host import logline; os.close(2); logline.report('ktaskd.x', 'a b=1')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
