"""The interference benchmark: its computations, verdicts, tables and picture, and one short real row."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.interference import fakehost, foreground, idle, kept, latency, notinway
from tests.bench.interference.bench import Bench, attempt, reason
from tests.bench.interference.fakehost import FakeHost
from tests.bench.interference.line import MISSED, PASS, Exactly, Line, failed, table
from tests.bench.interference.notinway import AUTO, POOL, XARGS
from tests.bench.interference.plot import draw, panels
from tests.bench.interference.programs import Unmeasured, compiled
from tests.bench.interference.report import Report, Section
from tests.bench.interference.rivals import Got, cpus, parse_rival, rivals
from tests.bench.interference.rounds import interleaved, percentile, quotients
from tests.bench.measure import Goal, Spread
from tests.support.users import REPOSITORY

AT_LEAST = Goal(0.98, at_least=True)

# -- statistics --------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.integers(1, 1000))
def test_percentile_when_any_values_then_least_that_so_many_are_not_above(
    values: list[int], thousandths: int
) -> None:
    values.sort()
    found = percentile(values, thousandths / 1000)
    enough = [each for each in values if 1000 * sum(v <= each for v in values) >= thousandths * len(values)]
    assert found == min(enough)


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 500), (0.99, 990), (0.999, 999), (1, 1000)])
def test_percentile_when_a_thousand_values_then_exact(share: float, wanted: int) -> None:
    assert percentile(range(1, 1001), share) == wanted


@pytest.mark.parametrize("share", [0, -1, 1.1])
def test_percentile_when_no_share_then_refused(share: float) -> None:
    with pytest.raises(ValueError, match="wanted more than 0"):
        percentile([1], share)


def test_interleaved_when_three_ways_then_each_has_its_turn_in_each_round() -> None:
    said: list[str] = []

    def way(name: str) -> int:
        said.append(name)
        return len(said)

    found = interleaved(2, {name: lambda name=name: way(name) for name in "abc"})  # type: ignore[misc]
    assert "".join(said) == "abcabc"
    assert found == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}


def test_quotients_when_rounds_then_of_each_round() -> None:
    assert quotients([2.0, 9.0], [1.0, 3.0]) == (2.0, 3.0)


def test_kept_when_rivals_lost_half_then_the_ratio_of_each_round() -> None:
    found = {
        notinway.ALONE: [(Got(100, 10.0), 0.0), (Got(200, 8.0), 0.0)],
        notinway.OURS: [(Got(99, 9.9), 0.1), (Got(200, 8.0), 0.0)],
        notinway.POOL: [(Got(50, 5.0), 5.0), (Got(80, 4.0), 4.0)],
    }
    lines = {line.name: line for line in notinway.kept_lines("here", found, 10.0, "idle cgroup")}
    ours, pool = (
        lines["here, CPU time beside our helpers"],
        lines["here, CPU time beside ProcessPoolExecutor"],
    )
    assert ours.values == pytest.approx((0.99, 1.0))
    assert (ours.verdict, pool.verdict) == (PASS, "")
    assert pool.values == (0.5, 0.5)
    assert lines["here, iterations beside ProcessPoolExecutor"].values == (0.5, 0.4)
    assert "these got 45.0% of the CPUs" in pool.about
    assert "idle cgroup" in ours.about


# -- lines and tables ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (Line("it", (0.9, 1.0, 1.0), goal=AT_LEAST), PASS),
        (Line("it", (0.9, 0.9, 1.0), goal=AT_LEAST), MISSED),
        (Line("it", (2.0,), goal=Goal(1.1, at_least=False)), MISSED),
        (Line("it", (1.0, 1.0), goal=Exactly(1)), PASS),
        (Line("it", (1.0, 1.0, 2.0), goal=Exactly(1)), MISSED),
        (Line("it", (7.0,)), ""),
        (failed("it", "no gcc"), MISSED),
    ],
)
def test_verdict_when_judged_then_by_its_goal(line: Line, verdict: str) -> None:
    assert line.verdict == verdict
    assert line.as_json()["verdict"] == (verdict or None)


def test_table_when_measured_and_not_then_both_are_lines() -> None:
    text = table(
        [
            Line("kept", (0.97, 0.991, 1.0), goal=AT_LEAST, about="idle slice"),
            Line("given up", (3.0,), bound=">="),
            failed("power", "SetMode: UNIMPLEMENTED"),
        ]
    )
    head, kept, bound, power = text.splitlines()
    assert head.split() == ["figure", "goal", "measured", "spread", "unit"]
    assert " ".join(kept.split()) == "kept >= 0.98 0.991 0.970 .. 1.000 x PASS idle slice"
    assert " ".join(bound.split()) == "given up >= 3.000 x"
    assert " ".join(power.split()) == "power - MISSED not measured: SetMode: UNIMPLEMENTED"


def test_attempt_when_a_machine_lacks_something_then_a_line_says_so() -> None:
    def lines() -> Iterator[Line]:
        yield Line("first", (1.0,))
        raise Unmeasured("no cpu controller")

    first, last = attempt("second", lines)
    assert first.name == "first"
    assert (last.name, last.why, last.verdict) == ("second", "no cpu controller", MISSED)


def test_attempt_when_the_bench_is_at_fault_then_it_ends() -> None:
    def lines() -> Iterator[Line]:
        yield Line("first", (1.0,))
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        list(attempt("second", lines))


def test_reason_when_long_then_its_end_in_one_line() -> None:
    said = reason(OSError("x" * 500 + "\nthe cause"))
    assert said.startswith("... ")
    assert said.endswith(" the cause")


def test_report_when_a_row_breaks_off_then_the_next_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(bench: Bench) -> Iterator[Line]:
        yield Line("half", (1.0,), goal=AT_LEAST)
        raise OSError("no such thing")

    report = Report(Bench(1.0, 1, 1 << 20, tmp_path))
    report.add(1, "first", broken)
    report.add(2, "second", lambda bench: iter([Line("whole", (0.5,), goal=AT_LEAST)]))
    assert report.verdicts() == "1 PASS, 2 MISSED (1 of them not measured)"
    printed = capsys.readouterr().out
    assert "not measured: OSError: no such thing" in printed
    report.write(tmp_path / "all.json")
    written = json.loads((tmp_path / "all.json").read_text())
    assert [row["row"] for row in written["rows"]] == [1, 2]
    assert written["rows"][0]["lines"][1]["why"] == "OSError: no such thing"
    assert written["rows"][1]["lines"][0]["values"] == [0.5]


# -- the picture -----------------------------------------------------------------------


def test_panels_when_units_differ_then_apart_and_what_has_no_goal_is_left_out() -> None:
    mixed = [
        Line("alone", (5.0,), "s"),
        Line("ratio", (1.0,), goal=AT_LEAST),
        failed("lost", "why"),
        Line("stop", (0.1,), "s", Goal(0.2, at_least=False)),
    ]
    found = panels([Section(3, "mixed", mixed), Section(7, "plain", [Line("wakes", (4.0,), "wake-ups")])])
    shown = [(panel.title, [line.name for line in panel.lines]) for panel in found]
    assert shown == [
        ("3. mixed", ["ratio", "lost"]),
        ("3. mixed (s)", ["alone", "stop"]),
        ("7. plain", ["wakes"]),
    ]


PICTURES = [
    [failed("nothing", "no reason")],
    [Line("zero", (0.0, 0.0), goal=Goal(0, at_least=False))],
    [Line("wide", (0.001, 1000.0), goal=AT_LEAST), Line("bound", (3.0,), bound=">="), failed("x", "y")],
    [Line("a name that is much too long for the margin " * 3, (1.0, 1.1))],
]


def draw_all(directory: Path) -> None:
    """Each by itself, and all in one."""
    sections = [Section(number, "row", lines) for number, lines in enumerate(PICTURES)]
    for section in sections:
        draw([section], directory / f"{section.number}.png", "this machine")
    draw(sections, directory / "all.png", "this machine")


def test_draw_when_any_lines_then_a_png(tmp_path: Path) -> None:
    # In another process, since matplotlib keeps fonts open.
    code = "import pathlib, sys; from tests.tools.test_interference import draw_all; "
    code += "draw_all(pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    pictures = list(tmp_path.iterdir())
    assert len(pictures) == len(PICTURES) + 1
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n") for path in pictures)


# -- output of other programs ------------------------------------------------------------


def test_wakes_when_parsed_then_pinned_threads_are_taken_together() -> None:
    free = " ".join(str(i * 1000) for i in range(1, 1001))
    found = latency.parse_wakes(f"-1 {free}\n0 1000 2000\n1 3000 4000\n")
    assert found[latency.ANYWHERE, "median"] == 500
    assert found[latency.ANYWHERE, "p99.9"] == 999
    assert found[latency.PINNED, "median"] == 2
    assert found[latency.PINNED, "p99"] == 4


def test_wrk_when_it_had_errors_then_not_measured() -> None:
    said = 'Running\n\n{"requests": 300, "us": 1500000, "p50": 1, "p99": 950, "errors": %d}\n'
    assert foreground.parse_wrk(said % 0) == foreground.Served(200.0, 950.0)
    with pytest.raises(Unmeasured, match="2 errors in 300"):
        foreground.parse_wrk(said % 2)


STRACE = """\
10 04:00:00.000001 epoll_wait(4 <unfinished ...>
11 04:00:00.000001 futex(0x1, FUTEX_WAIT <unfinished ...>
11 04:00:01.000001 <... futex resumed>) = -1 ETIMEDOUT (Connection timed out)
11 04:00:01.000002 write(5, "x", 1) = 1
10 04:00:02.000001 <... epoll_wait resumed>[], 1, 100) = 0
10 04:00:02.000002 epoll_wait(4,  <detached ...>
11 04:00:03.000001 <... restart_syscall resumed>) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 90.00    0.000009           9         2         1 futex
 10.00    0.000001           1         5           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000010                     7         1 total
"""


def test_strace_when_parsed_then_sleeps_that_ended_and_calls() -> None:
    assert idle.returns(STRACE) == {10: 1, 11: 1}
    assert idle.calls(STRACE) == "calls of all processes: epoll_wait 5, futex 2"


def test_voluntary_when_a_thread_slept_then_once_more() -> None:
    path = Path("/proc/thread-self/status")
    before = idle.voluntary(path.read_text())
    time.sleep(0.001)
    assert idle.voluntary(path.read_text()) > before


# -- programs of our own -------------------------------------------------------------------


def test_rivals_when_started_then_all_threads_say_what_they_got(tmp_path: Path) -> None:
    with rivals(compiled("rival", tmp_path), 2, pinned=cpus()[:1]) as them:
        for _ in range(2):
            them.start(0.05)
            got = them.collect()
            assert got.iterations > 0
            assert got.cpu_s > 0


def test_rival_when_its_line_is_cut_then_not_measured() -> None:
    assert parse_rival("7 2000000000 3000000000\n") == Got(7, 2.0)
    with pytest.raises(Unmeasured):
        parse_rival("")


def test_wakes_when_run_then_each_thread_woke_up_each_millisecond(tmp_path: Path) -> None:
    cpu = str(cpus()[0])
    words = [str(compiled("wakes", tmp_path)), "0.02", cpu]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["-1", cpu]
    assert all(len(line) == 21 and all(int(word) >= 0 for word in line[1:]) for line in lines)


# -- a machine of files ----------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [fakehost.RECORDED, Path("/nonexistent")])
def test_fake_host_when_things_happen_then_files_change_and_are_put_back(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakehost, "RECORDED", recorded)
    host = FakeHost(tmp_path / "host")

    def content() -> dict[Path, str]:
        return {path: path.read_text() for path in sorted(host.top.rglob("*")) if path.is_file()}

    before = content()
    for happen, changes in ((host.unplug, 2), (host.drain, 2), (host.heat, 1)):
        happen()
        now = content()
        assert sum(now[path] != before[path] for path in before) == changes
        host.calm()
        assert content() == before


# -- the command ---------------------------------------------------------------------------------


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench.interference", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)


@pytest.mark.parametrize(
    "words", [("--rows", "9"), ("--rows", "x"), ("--seconds", "0"), ("--repeat", "0"), ("--size", "x")]
)
def test_command_when_an_option_is_wrong_then_refused(words: tuple[str, str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert words[0] in done.stderr


@pytest.mark.alone
def test_command_when_one_short_row_then_table_json_and_picture(tmp_path: Path) -> None:
    effort = ["--rows", "4", "--seconds", "0.1", "--repeat", "2", "--size", "1M"]
    done = run(*effort, "--json", str(tmp_path / "all.json"), "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = json.loads((tmp_path / "all.json").read_text())["rows"]
    lines = {line["name"]: line for line in row["lines"]}
    harvest = lines["idle machine, waited: CPU time of all"]
    assert harvest["goal"] == ">= 0.95"
    assert len(harvest["values"]) == 2
    assert Spread.of(harvest["values"]).median == harvest["median"]
    for name in lines:
        assert name in done.stdout
    assert (tmp_path / "interference.png").read_bytes().startswith(b"\x89PNG")


def test_picture_of_the_readme_when_drawn_then_the_medians_of_three_ways(tmp_path: Path) -> None:
    ways = {AUTO: [0.9, 1.0, 0.99], XARGS: [0.5, 0.4, 0.6], POOL: [0.5]}
    lines = [
        {"name": f"another session, CPU time beside {way}", "values": values} for way, values in ways.items()
    ]
    figures, picture = tmp_path / "figures.json", tmp_path / "kept.svg"
    figures.write_text(json.dumps({"rows": [{"row": 1, "lines": lines}]}))
    # In a process of its own: matplotlib keeps its fonts open.
    words = [sys.executable, "-m", "tests.bench.interference.kept", str(figures), str(picture)]
    subprocess.run(words, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    assert kept.kept(json.loads(figures.read_text())) == {
        "ktaskd": 0.99,
        "nice -n 19 xargs -P": 0.5,
        "ProcessPoolExecutor": 0.5,
    }
    drawn = picture.read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("ktaskd", "99 %", "50 %"))
