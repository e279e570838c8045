"""Contests: several ways to do the same work, interleaved, with equal answers; and the lines they give.

A way that fails, or whose answer differs from that of the first way, ends the contest: its times would mean
nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ktask

from tests.bench.interference.line import Line
from tests.bench.interference.rounds import quotients
from tests.bench.measure import Goal

LIMIT_SHARE = 1.05
"""A way at the limit of the machine may take this much more than the limit."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Effort and place.

    Args:
        repeat: rounds of each contest.
        size: the largest file or memory region, in bytes.
        files: numbers of files of the rows about many files.
        calls: number of calls of the rows about small jobs and calls.
        directory: an empty one with a short path, removed afterwards.
        runtime: the directory of a private daemon.
        client: connected to that daemon.
    """

    repeat: int
    size: int
    files: tuple[int, int]
    calls: int
    directory: Path
    runtime: str
    client: ktask.Client


@dataclass(frozen=True, slots=True)
class Way:
    """One way to do the work.

    Args:
        work: does it once and returns its answer; None is compared with nothing.
        before: makes ready what the work changes; not timed.
        seconds: the time of the work, from what it returns, if it measures itself; None = its duration here.
        answer: finds out what was done, not timed; None = `work` returns it.
    """

    work: Callable[[], object]
    before: Callable[[], object] | None = None
    seconds: Callable[[object], float] | None = None
    answer: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each way in each round, by the way's name."""

    by_name: Mapping[str, Sequence[float]]

    def of(self, name: str) -> Sequence[float]:
        """The rounds of one way."""
        return self.by_name[name]

    def median(self, name: str) -> float:
        """The median of one way."""
        return statistics.median(self.by_name[name])

    def best(self, names: Sequence[str]) -> str:
        """The way with the least median."""
        return min(names, key=self.median)

    def ratio(self, over: str, under: str) -> tuple[float, ...]:
        """The ratio of two ways in each round."""
        return quotients(self.by_name[over], self.by_name[under])

    def about(self, *names: str) -> str:
        """The medians of some ways, in words."""
        return ", ".join(f"{name} {milliseconds(self.median(name))}" for name in names)


def contest(repeat: int, ways: Mapping[str, Way]) -> Times:
    """Run all ways in each round, in an order that is reversed every time; the first round does not count.

    Raises:
        AssertionError: two answers differ.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(repeat + 1):
        answers = {}
        for name in names if number % 2 else reversed(names):
            seconds, answers[name] = _timed(ways[name])
            if number:
                found[name].append(seconds)
        check_equal({name: answers[name] for name in names})
    return Times(found)


def itself(answer: object) -> float:
    """The seconds of a way that returns them."""
    assert isinstance(answer, float), "the way measures itself"
    return answer


def _timed(way: Way) -> tuple[float, object]:
    if way.before is not None:
        way.before()
    begin = time.perf_counter()
    found = way.work()
    seconds = time.perf_counter() - begin
    if way.seconds is not None:
        return way.seconds(found), None
    return seconds, found if way.answer is None else way.answer()


def check_equal(answers: Mapping[str, object]) -> None:
    """Compare the answers of one round; raises AssertionError."""
    said = {name: answer for name, answer in answers.items() if answer is not None}
    for name, answer in said.items():
        first = next(iter(said))
        if answer != said[first]:
            raise AssertionError(f"{name} answers {_short(answer)}, {first} {_short(said[first])}")


def _short(answer: object) -> str:
    text = str(answer)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(text)} characters)"


def at_most(bound: float) -> Goal:
    """A goal that a ratio must not exceed."""
    return Goal(bound, at_least=False)


def at_most_or_limit(bound: float, limit: float, extra: float = 0.0) -> Goal:
    """The larger one of a bound and of the limit of this run, with a twentieth and something extra on top.

    Args:
        limit: time of bare processes that do the same, over the time of the direct call.
        extra: time of an empty job, over the time of the direct call.
    """
    return at_most(max(bound, limit * LIMIT_SHARE + extra))


def against(times: Times, ours: str, rivals: Sequence[str], goal: Goal | None, name: str = "") -> Line:
    """One way over the best of some others."""
    best = times.best(rivals)
    return Line(
        name or f"{ours} over {best}",
        times.ratio(ours, best),
        "",
        goal,
        times.about(ours, *rivals),
    )


def milliseconds(seconds: float) -> str:
    """A duration with three digits or so."""
    ms = seconds * 1e3
    return f"{ms:.3f} ms" if ms < 1 else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"


def mib(size: int) -> str:
    """A size in MiB or GiB."""
    return f"{size >> 30} GiB" if size >= 1 << 30 and size % (1 << 30) == 0 else f"{size >> 20} MiB"
