"""Row 6: the client's CPU quota. Real cgroups; the client is put in before it connects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import ktask

from tests.bench.interference import cputime
from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.client import Client, client
from tests.bench.interference.groups import Group, group
from tests.bench.interference.line import Exactly, Line
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured
from tests.bench.interference.rivals import cpus
from tests.bench.measure import Goal

FOLLOWED = Goal(2.0, at_least=False)
WITHIN = Goal(1.05, at_least=False)
"""A paced lead exceeds its quota by at most a quantum and a period."""

_SPIN_MS = 5.0
_SAMPLE_S = 0.02
_START_S = 0.5
_CALM_S = 1.0
"""How long the number of workers must not rise again to count as followed."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A job in its window: workers planned, the most that ran at once, and the lead's CPU time."""

    planned: int
    running: int
    lead: float
    all_workers: float


def measure(bench: Bench) -> Iterator[Line]:
    """Measure a limit of the client's own group, one of an ancestor, and one that changes."""
    with private_daemon(bench.directory, "row6") as home, group("quota") as outer, outer.child("in") as inner:
        for cpus_left, workers in ((0.5, 1), (1.5, 1), (2.0, 2)):
            yield from attempt(f"{cpus_left:g} CPUs", _limited(bench, home, inner, inner, cpus_left, workers))
        yield from attempt("ancestor", _limited(bench, home, outer, inner, 1.5, 1))
        yield from attempt("change", lambda: _changes(bench, home, inner))


def _limited(
    bench: Bench, home: PrivateDaemon, limited: Group, member: Group, cpus_left: float, workers: int
) -> Callable[[], Iterator[Line]]:
    """The workers of a client in `member` while `limited`, which may be above it, has a limit."""
    where = "" if limited is member else " in an ancestor"
    name = f"{cpus_left:g} CPUs{where}"

    def lines() -> Iterator[Line]:
        limited.limit(cpus_left)
        try:
            seen = [_seen(bench, home, member) for _ in range(bench.repeat)]
        finally:
            limited.limit(None)
        wanted = min(workers, len(cpus()))
        yield _exactly(f"{name}: workers planned", [each.planned for each in seen], wanted)
        yield _exactly(f"{name}: most at the same time", [each.running for each in seen], wanted)
        of_quota = tuple(each.lead / cpus_left for each in seen)
        about = "CPUs used by all workers: " + ", ".join(f"{each.all_workers:.2f}" for each in seen)
        yield Line(f"{name}: CPU time of the lead, of the quota", of_quota, "", WITHIN, about)

    return lines


def _exactly(name: str, counts: list[int], wanted: int) -> Line:
    return Line(name, tuple(map(float, counts)), "workers", Exactly(wanted))


def _seen(bench: Bench, home: PrivateDaemon, member: Group) -> Seen:
    with client(str(home.daemon.place), member) as who:
        _spin(who, bench.seconds + 2 * _START_S)
        job = home.running_job()
        time.sleep(_START_S)
        helpers, leads = home.helpers(), home.leads()
        before, begin = (cputime.on_cpu(helpers), cputime.on_cpu(leads)), time.monotonic()
        most = 0
        while time.monotonic() < begin + bench.seconds:
            most = max(most, _workers(home, job))
            time.sleep(_SAMPLE_S)
        took = time.monotonic() - begin
        by_helpers = (cputime.on_cpu(helpers) - before[0]) / took
        by_leads = (cputime.on_cpu(leads) - before[1]) / took
        planned = home.client.job(job).plan
        home.client.cancel(job)
        return Seen(planned.threads if planned else 0, most, by_leads, by_helpers + by_leads)


def _spin(who: Client, seconds: float) -> None:
    """A waited job that all CPUs could not end in this time."""
    units = round(2 * len(cpus()) * seconds * 1e3 / _SPIN_MS)
    who.ask(work="spin", units=units, ms=_SPIN_MS)
    who.tell(do="waited")


def _workers(home: PrivateDaemon, job: ktask.Job) -> int:
    progress = home.client.job(job).progress
    return progress.running_helpers + progress.running_leads


def _changes(bench: Bench, home: PrivateDaemon, member: Group) -> Iterator[Line]:
    """Lower the limit to half a CPU and raise it again while a job runs."""
    full = float(len(cpus()))
    down, up = [], []
    for _ in range(bench.repeat):
        with ExitStack() as end:
            end.callback(member.limit, None)
            member.limit(full)
            who = end.enter_context(client(str(home.daemon.place), member))
            _spin(who, 60.0)
            job = home.running_job()
            end.callback(home.client.cancel, job)
            home.wait(lambda job=job: _workers(home, job) >= full, "a worker for each CPU runs")  # type: ignore[misc]
            member.limit(0.5)
            down.append(_followed(home, job, lambda count: count <= 1, "at most one worker"))
            member.limit(full)
            up.append(_followed(home, job, lambda count: count >= full, "a worker for each CPU"))
    yield Line("lowered while a job runs: followed after", tuple(down), "s", FOLLOWED)
    yield Line("raised while a job runs: followed after", tuple(up), "s", FOLLOWED)


def _followed(home: PrivateDaemon, job: ktask.Job, right: Callable[[int], bool], what: str) -> float:
    """Seconds until the number of workers is right and, when asked for less, stays so."""
    begin = time.monotonic()
    since = begin
    seen_right = False
    while not seen_right or time.monotonic() - since < _CALM_S:
        now, is_right = time.monotonic(), right(_workers(home, job))
        if is_right and not seen_right:
            since = now
        seen_right = is_right
        if now - begin > 15:
            raise Unmeasured(f"not after 15 s: {what}")
        time.sleep(_SAMPLE_S)
    return since - begin
