"""Row 5: power. The effects of unplugging a laptop, on a machine made of files.

Only the laptop is made of files; the daemon, its helpers, the event of the
kernel and the bus are real. Each round has a daemon of its own. Each position of both
jobs is a range of its own, so that a chunk is one position.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import ktask

from tests.bench.interference import cputime
from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.client import client
from tests.bench.interference.fakehost import FakeHost, send_uevent
from tests.bench.interference.line import Line
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured
from tests.bench.interference.services import Services, services
from tests.bench.interference.works import APART_MAX
from tests.bench.measure import Goal
from tests.support.real_daemon import KTASKD

CHUNK_S = 0.02
STOPS = Goal(0.2 + CHUNK_S, at_least=False)
GOES_ON = Goal(0.9, at_least=True)
STANDS = Goal(0.02, at_least=False)
SAID = Goal(1, at_least=True)
NONE = Goal(0, at_least=False)

HOLD_S = 2.0
"""How long a cause must be over before helpers come back, in this row's configuration."""
_HOLDS = ("ac_hold_s", "battery_hold_s", "heat_hold_s", "sleep_hold_s")
_RESUMES = Goal(HOLD_S + 2.0, at_least=False)

_POLL_S = 0.004
_QUIET_S = 0.6
"""A helper that has had no CPU time for this long has stopped."""
_GIVE_UP_S = 5.0
_RESUME_S = 30.0
_NOTICED_S = 0.0002
"""More CPU time than a helper needs to receive a message."""
_BEFORE_S = 0.5
_LEAST_BEFORE = 0.3
"""The part of its CPU that a helper must have, so that a stop can be seen."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """An event that stops helpers.

    Args:
        codes: one of these must be the reason.
        begin: causes the event; None if the bus reports it.
        said: requests to the bus's services at its beginning and its end; "" = none.
    """

    name: str
    codes: frozenset[str]
    begin: Callable[[FakeHost], None] | None = None
    said: tuple[str, str] = ("", "")


SCENARIOS = (
    Scenario("unplugged", frozenset({"ON_BATTERY"}), FakeHost.unplug),
    Scenario("low battery", frozenset({"BATTERY_LOW"}), FakeHost.drain),
    Scenario("power-saver", frozenset({"POWER_SAVER"}), said=("profile power-saver", "profile balanced")),
    Scenario("hot", frozenset({"THERMAL"}), FakeHost.heat),
    Scenario("sleep", frozenset({"SLEEP", "SLEEPING"}), said=("sleep yes", "sleep no")),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """One scenario, once.

    Args:
        stopped_s: until no helper made progress.
        lead, helpers: CPUs used while it lasted.
        said: whether the status and the detached job named the reason.
        resumed_s: from its end until helpers made progress.
        failed: number of jobs that had ended.
    """

    stopped_s: float
    lead: float
    helpers: float
    said: bool
    resumed_s: float
    failed: int


def measure(bench: Bench) -> Iterator[Line]:
    """Measure each scenario, in turn."""
    config = _configuration(bench.directory)
    for scenario in SCENARIOS:
        yield from attempt(scenario.name, lambda scenario=scenario: _scenario(bench, scenario, config))  # type: ignore[misc]


def _configuration(directory: Path) -> str:
    """The governor's section with short holds, or "" if this daemon has no such keys."""
    text = "[governor]\n" + "".join(f"{name} = {HOLD_S}\n" for name in _HOLDS)
    path = directory / "holds.toml"
    path.write_text(text)
    words = [str(KTASKD), "--check-config", "--config", str(path)]
    return text if subprocess.run(words, check=False, capture_output=True).returncode == 0 else ""


def _scenario(bench: Bench, scenario: Scenario, config: str) -> Iterator[Line]:
    seen = [_once(bench, scenario, config, number) for number in range(bench.repeat)]
    yield from _lines(scenario.name, seen, bool(config))


def _lines(name: str, seen: Sequence[Seen], held: bool) -> Iterator[Line]:
    def line(what: str, values: Iterator[float], unit: str, goal: Goal, about: str = "") -> Line:
        return Line(f"{name}: {what}", tuple(values), unit, goal, about)

    hold = f"after a hold of {HOLD_S:g} s" if held else "with the default hold"
    chunk = f"200 ms and a chunk of {CHUNK_S * 1e3:g} ms"
    yield line("helpers stop after", (each.stopped_s for each in seen), "s", STOPS, chunk)
    yield line("lead goes on, CPUs used", (each.lead for each in seen), "CPUs", GOES_ON)
    yield line("detached job stands, CPUs used", (each.helpers for each in seen), "CPUs", STANDS)
    yield line("reason in status and job", (float(each.said) for each in seen), "1 = yes", SAID)
    yield line("helpers resume after", (each.resumed_s for each in seen), "s", _RESUMES, hold)
    yield line("jobs that failed", (float(each.failed) for each in seen), "jobs", NONE)


def _once(bench: Bench, scenario: Scenario, config: str, number: int) -> Seen:
    label = f"p{SCENARIOS.index(scenario)}{number}"
    with ExitStack() as end:
        host = FakeHost(bench.directory / f"{label}h")
        bus = end.enter_context(services(host.bus)) if scenario.said[0] else None
        (bench.directory / f"{label}.toml").write_text(config)
        environ = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={host.bus}"}
        home = end.enter_context(
            private_daemon(bench.directory, label, "--host-root", host.top, environ=environ)
        )
        job = home.client.submit(
            "selftest.spin",
            arg={"ms": CHUNK_S * 1e3},
            ranges=[(i, 1, -1) for i in range(APART_MAX)],
            max_threads=64,
        )
        end.callback(home.client.cancel, job)
        who = end.enter_context(client(str(home.daemon.place)))
        who.ask(work="spin", units=APART_MAX, ms=CHUNK_S * 1e3, apart=True)
        who.tell(do="waited")
        return _watched(bench, scenario, home, job, host, bus)


def _watched(
    bench: Bench,
    scenario: Scenario,
    home: PrivateDaemon,
    job: ktask.Job,
    host: FakeHost,
    bus: Services | None,
) -> Seen:
    working, helpers = _at_work(home), home.helpers()
    begin = time.monotonic()
    _happen(scenario, host, bus, over=False)
    stopped_s = _until_quiet(home, working, begin)
    leads, window = home.leads(), max(1.0, bench.seconds / 2)
    before = cputime.on_cpu(leads), cputime.on_cpu(helpers)
    since = time.monotonic()
    time.sleep(window)
    took = time.monotonic() - since
    lead = (cputime.on_cpu(leads) - before[0]) / took
    by_helpers = (cputime.on_cpu(helpers) - before[1]) / took
    said = _is_said(home, job, scenario.codes)
    begin = time.monotonic()
    _happen(scenario, host, bus, over=True)
    resumed_s = _until_busy(home, helpers, begin)
    failed = sum(each.state.ended for each in home.client.jobs())
    return Seen(stopped_s, lead, by_helpers, said, resumed_s, failed)


def _happen(scenario: Scenario, host: FakeHost, bus: Services | None, *, over: bool) -> None:
    if bus:
        bus.say(scenario.said[over])
        return
    assert scenario.begin is not None
    if over:
        host.calm()
    else:
        scenario.begin(host)
    send_uevent()


def _at_work(home: PrivateDaemon) -> list[int]:
    """The helpers that have a CPU, as soon as there is one.

    The helper whose CPU the lead took has next to nothing, before and after; it
    would end its chunk late, no matter what stops it.
    """
    found: list[int] = []

    def look() -> bool:
        helpers = home.helpers()
        before = [cputime.on_cpu([pid]) for pid in helpers]
        time.sleep(_BEFORE_S)
        used = [cputime.on_cpu([pid]) - had for pid, had in zip(helpers, before, strict=True)]
        found[:] = [pid for pid, got in zip(helpers, used, strict=True) if got > _LEAST_BEFORE * _BEFORE_S]
        return bool(found)

    home.wait(look, f"a helper gets {_LEAST_BEFORE:.0%} of its CPU on this machine", 20.0)
    return found


def _until_quiet(home: PrivateDaemon, helpers: Sequence[int], begin: float) -> float:
    """Seconds until the helpers last used CPU time."""
    last, before = begin, cputime.on_cpu(helpers)
    while (now := time.monotonic()) - last < _QUIET_S:
        if now - begin > _GIVE_UP_S:
            raise Unmeasured(f"helpers still run after {_GIVE_UP_S:g} s; the status says {home.reasons()}")
        used = cputime.on_cpu(helpers)
        if used - before > _NOTICED_S:
            last = now
        before = used
        time.sleep(_POLL_S)
    return last - begin


def _until_busy(home: PrivateDaemon, helpers: Sequence[int], begin: float) -> float:
    """Seconds until the helpers have used a chunk's CPU time again."""
    before = cputime.on_cpu(helpers)
    while cputime.on_cpu(helpers) - before < CHUNK_S:
        if time.monotonic() - begin > _RESUME_S:
            raise Unmeasured(
                f"helpers do not resume within {_RESUME_S:g} s; the status says {home.reasons()}"
            )
        time.sleep(_POLL_S)
    return time.monotonic() - begin


def _is_said(home: PrivateDaemon, job: ktask.Job, codes: frozenset[str]) -> bool:
    status = {reason.code for reason in home.status().allowance.reasons}
    waiting = {reason.code for reason in home.client.job(job).waiting_reasons}
    return bool(codes & status) and bool(codes & waiting)
