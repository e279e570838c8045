"""The measurements run to their end and judge what they find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ktaskd.functions.catalogue import CATALOGUE
from tests.bench import before, throughput
from tests.bench.measure import Figure, Goal, Spread, in_turn, ratios, table
from tests.support.users import REPOSITORY

GOALS = {
    "selftest.noop by client.run": "<= 2",
    "a chunk, 1 worker": "<= 25",
    "a chunk, 2 workers": "<= 25",
    "file.crc32, file": ">= 1.8",
    "file.crc32, memory": ">= 1.8",
    "mem.fill, present memory": ">= 1.8",
    "mem.fill, new memory": ">= 1.8",
}
FUNCTIONS = {name for name, one in CATALOGUE.items() if not (one.selftest or one.own)}
EXECUTORS = {"map, ktask.Executor", "map, ProcessPoolExecutor"}
WITHOUT = {
    *("daemon, resident, idle", "worker, private, idle", "daemon, resident, used", "worker, private, used"),
    *("bare unary round trip", "  plain processes"),
}


@pytest.mark.alone
def test_bench_when_quick_then_all_figures_are_printed_and_written(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    words = [sys.executable, "-m", "tests.bench", "--quick", "--json", str(path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads(path.read_text())
    assert written["machine"].keys() >= {"cpu", "cores", "kernel", "python", "load"}
    figures = {figure["name"]: figure for figure in written["figures"]}
    assert {name: figures[name]["goal"] for name in GOALS} == GOALS
    assert figures.keys() >= WITHOUT | FUNCTIONS | EXECUTORS
    for name, figure in figures.items():
        assert f"\n{name} " in done.stdout
        assert 0 <= figure["min"] <= figure["median"] <= figure["max"]
        assert (figure["verdict"] in ("PASS", "MISS")) == (name in GOALS or name.startswith("cancel "))


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"), [(2.0, True, "PASS"), (1.9, True, "MISS"), (2.1, False, "MISS")]
)
def test_verdict_when_beside_the_goal_then_miss(value: float, at_least: bool, verdict: str) -> None:
    figure = Figure("it", Spread(value, 0.1, 9.0), goal=Goal(2.0, at_least=at_least))
    assert figure.verdict == verdict
    assert f"  {verdict}" in table([figure])


def test_verdict_when_no_goal_then_none() -> None:
    assert Figure("it", Spread(1, 1, 1)).as_json()["verdict"] is None


def test_throughput_when_the_source_is_small_then_nothing_is_aimed_at() -> None:
    assert throughput.goal_for(throughput.GOAL_FROM - 1) is None
    assert throughput.goal_for(throughput.GOAL_FROM) == Goal(0.9, at_least=True)


def test_in_turn_when_several_rounds_then_each_once_in_both_orders() -> None:
    said: list[str] = []

    def way(name: str) -> float:
        said.append(name)
        return float(len(said))

    results = in_turn(2, lambda: way("a"), lambda: way("b"))
    assert "".join(said) == "ababba"
    assert results == [[3, 6], [4, 5]]


def test_ratios_when_rounds_then_of_each_round() -> None:
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == Spread(3.0, 2.0, 4.0)


@pytest.mark.alone
def test_comparison_when_with_an_earlier_commit_then_each_figure_and_nothing_left() -> None:
    words = [sys.executable, "-m", "tests.bench.before", "HEAD", "--quick", "--rounds", "1"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    for name in ("selftest.noop by client.run", "a chunk, 1 worker"):
        assert f"\n{name} " in done.stdout
    trees = subprocess.run(
        ["git", "worktree", "list"], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert "ktaskd-before-" not in trees.stdout


@pytest.mark.alone
def test_job_cost_when_short_then_each_figure_beside_its_goal() -> None:
    words = [sys.executable, "-m", "tests.bench.jobcost", "--rounds", "1", "--calls", "5", "--jobs", "8"]
    done = subprocess.run(
        [*words, "--size", "1"], check=False, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert (done.returncode, done.stderr) == (0, "")
    goals = {"an empty job": "<= 2", "empty jobs, 4 programs at once": "<= 2.5"}
    for name, goal in (goals | {"CPU of crc32, 1 MiB region, again": "<= 1.1"}).items():
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name}  "))
        assert goal in line


def test_comparison_when_a_figure_is_new_then_only_what_both_have() -> None:
    (figure,) = before.compared([{"a": 2.0}, {"a": 4.0}], [{"a": 2.1, "b": 1.0}, {"a": 4.0, "b": 1.0}])
    assert (figure.name, figure.spread) == ("a", Spread(1.025, 1.0, 1.05))
    assert figure.verdict == "PASS"


@pytest.mark.alone
def test_many_files_when_few_then_all_figures_are_printed() -> None:
    words = [sys.executable, "-m", "tests.bench.manyfiles", "--files", "30", "--size", "100", "--repeat", "1"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")
    for name in (
        "ktask manifest / xargs -P2 -n 500 sha256sum",
        "CPU of the client",
        "b3sum",
        "memory of the daemon",
    ):
        assert name in done.stdout
