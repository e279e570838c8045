"""The comparison with other programs: its arithmetic, and a quick run of some rows.

Tests: tests/bench/peers/contest.py, tests/bench/peers/used.py, tests/bench/peers/__main__.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.interference.line import MISSED, PASS, Line
from tests.bench.interference.report import Section
from tests.bench.peers.__main__ import verdicts
from tests.bench.peers.contest import (
    Times,
    Way,
    against,
    at_most,
    at_most_or_limit,
    check_equal,
    contest,
    itself,
    mib,
    milliseconds,
)
from tests.bench.peers.rows import ROWS
from tests.bench.peers.used import count_messages
from tests.support.users import REPOSITORY

TIMES = Times({"ours": (2.0, 3.0, 8.0), "slow": (4.0, 4.0, 4.0), "fast": (1.0, 2.0, 2.0)})
RATIOS = st.floats(0.01, 100)


def test_contest_when_several_rounds_then_in_both_orders_and_the_first_does_not_count() -> None:
    said: list[str] = []

    def way(name: str) -> Way:
        return Way(lambda: said.append(name), lambda: said.append(f"before {name}"))

    times = contest(2, {"a": way("a"), "b": way("b")})
    assert [word for word in said if len(word) == 1] == ["b", "a", "a", "b", "b", "a"]
    assert said[0::2] == [f"before {name}" for name in said[1::2]]
    assert {name: len(seconds) for name, seconds in times.by_name.items()} == {"a": 2, "b": 2}


def test_contest_when_a_way_measures_itself_then_its_seconds_count() -> None:
    given = iter((9.0, 0.5, 0.25))
    times = contest(2, {"it": Way(lambda: next(given), seconds=itself)})
    assert times.of("it") == [0.5, 0.25]


def test_contest_when_an_answer_is_found_afterwards_then_that_one_is_compared() -> None:
    said = iter((1, 1, 2, 1))
    with pytest.raises(AssertionError, match="b answers"):
        contest(1, {"a": Way(lambda: "x", answer=lambda: next(said)), "b": Way(lambda: next(said))})


def test_answers_when_one_differs_then_named_and_none_is_compared_with_nothing() -> None:
    check_equal({"a": None, "b": 7, "c": 7})
    with pytest.raises(AssertionError, match="c answers 8, b 7"):
        check_equal({"a": None, "b": 7, "c": 8})


def test_line_when_there_are_several_rivals_then_over_the_fastest_of_them_in_each_round() -> None:
    line = against(TIMES, "ours", ["slow", "fast"], at_most(1.5))
    assert (line.name, line.values) == ("ours over fast", (2.0, 1.5, 4.0))
    assert line.verdict == MISSED
    assert line.about == "ours 3000 ms, slow 4000 ms, fast 2000 ms"
    assert against(TIMES, "ours", ["slow"], at_most(0.75)).verdict == PASS


@given(RATIOS, RATIOS, RATIOS)
def test_goal_when_there_is_a_limit_then_neither_below_it_nor_below_the_bound(
    bound: float, limit: float, extra: float
) -> None:
    goal = at_most_or_limit(bound, limit, extra)
    assert goal.met(bound)
    assert goal.met(limit + extra)
    assert not goal.met(1.01 * max(bound, 1.05 * limit + extra))


def test_messages_when_counted_then_only_those_that_carried_something() -> None:
    text = (
        "[pid 7] sendmsg(5, {msg_name=NULL}, MSG_NOSIGNAL) = 44\n"
        "[pid 7] recvmsg(5, {msg_name=NULL}, 0) = 80\n"
        '[pid 7] read(9, ""..., 64) = 0\n'
        "[pid 8] recvfrom(5, 0x7f, 4, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)\n"
        "[pid 8] <... recvmsg resumed>{msg_name=NULL}, 0) = 12\n"
        '[pid 8] write(6, ""..., 1) = 1\n'
    )
    assert count_messages(text) == (2, 2)


def test_numbers_when_printed_then_in_units_that_people_read() -> None:
    assert [milliseconds(each) for each in (0.0001234, 0.0123, 1.5)] == ["0.123 ms", "12.3 ms", "1500 ms"]
    assert [mib(size) for size in (8 << 20, 1 << 30, 1536 << 20)] == ["8 MiB", "1 GiB", "1536 MiB"]


def test_verdicts_when_counted_then_an_unmeasured_line_is_missed() -> None:
    lines = [Line("a", (1.0,), goal=at_most(1.0)), Line("b", (2.0,)), Line("c", why="no disk")]
    assert verdicts([Section(1, "row", lines)]) == "1 PASS, 1 MISSED"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench.peers", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)


def test_rows_when_listed_or_unknown_then_nothing_is_measured() -> None:
    listed = run("--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(ROWS)
    unknown = run("--only", "copy,no-such-row")
    assert unknown.returncode == 2
    assert 'got "no-such-row", wanted some of crc-memory' in unknown.stderr


@pytest.mark.alone
def test_comparison_when_quick_then_table_figures_and_picture(tmp_path: Path) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "pictures" / "peers.png"
    rows = "crc-memory,empty-one,fill"
    done = run("--quick", "--repeat", "1", "--only", rows, "--json", str(figures), "--picture", str(picture))
    assert (done.returncode, done.stderr) == (0, "")
    written: dict[str, Any] = json.loads(figures.read_text())
    assert [row["row"] for row in written["rows"]] == rows.split(",")
    lines = [line for row in written["rows"] for line in row["lines"]]
    assert not [line for line in lines if line["why"]]
    assert all(line["name"].strip() in done.stdout and line["median"] > 0 for line in lines)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_comparison_when_it_is_ended_then_figures_are_written_and_nothing_is_left(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = [sys.executable, "-m", "tests.bench.peers", "--quick", "--repeat", "1"]
    words += ["--only", "fill,empty-many", "--json", str(figures), "--picture", str(tmp_path / "peers.png")]
    with tempfile.TemporaryDirectory(prefix="p-", dir="/tmp") as short:  # else a socket's path is too long
        environ = {**os.environ, "TMPDIR": short}
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environ
        ) as process:
            assert process.stdout is not None
            next(line for line in process.stdout if line.startswith("fill: "))
            assert os.listdir(short)  # the second row is being measured
            process.terminate()
            assert process.wait() == 128 + signal.SIGTERM
        assert not os.listdir(short)
    assert json.loads(figures.read_text())["rows"][0]["row"] == "fill"
