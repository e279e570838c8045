"""Row 4: harvest. The part that a job gets of the CPUs that nobody else wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from tests.bench.interference import cputime
from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.client import Client, client
from tests.bench.interference.line import Line, failed
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured
from tests.bench.interference.rivals import cpus, rivals
from tests.bench.interference.rounds import interleaved, quotients
from tests.bench.measure import Goal, Spread

OF_THE_IDLE = Goal(0.9, at_least=True)
ALL_OF_IT = Goal(0.95, at_least=True)
_SPIN_MS = 5.0
_START_S = 0.5
"""Seconds from the submission to the window of the measurement."""


@dataclass(frozen=True, slots=True)
class Share:
    """CPU seconds by second."""

    helpers: float
    leads: float

    @property
    def both(self) -> float:
        """All workers."""
        return self.helpers + self.leads


def measure(bench: Bench) -> Iterator[Line]:
    """Measure with one busy CPU, then with none."""
    if len(cpus()) < 2:
        yield failed("one CPU busy and one idle", "this machine has one CPU, the row needs two")
        return
    with private_daemon(bench.directory, "row4") as home:
        try:
            home.set_mode("always")
        except Unmeasured as error:
            yield failed("mode always", str(error))
        yield from attempt("beside one rival", lambda: _beside_one(bench, home))
        yield from attempt("idle machine", lambda: _idle(bench, home))


# -- shares of CPU time --------------------------------------------------------------


@contextmanager
def _waited(home: PrivateDaemon, who: Client, seconds: float) -> Iterator[None]:
    """A waited job that lasts longer than this on all CPUs; cancelled at the end."""
    units = round(2 * len(cpus()) * seconds * 1e3 / _SPIN_MS)
    who.ask(work="spin", units=units, ms=_SPIN_MS)
    who.tell(do="waited")
    job = home.running_job()
    yield
    home.client.cancel(job)
    with suppress(Unmeasured):  # it reports that its job was cancelled
        who.answer()


def _share(home: PrivateDaemon, seconds: float) -> Share:
    helpers, leads = home.helpers(), home.leads()
    before, begin = (cputime.on_cpu(helpers), cputime.on_cpu(leads)), time.monotonic()
    time.sleep(seconds)
    after, took = (cputime.on_cpu(helpers), cputime.on_cpu(leads)), time.monotonic() - begin
    return Share((after[0] - before[0]) / took, (after[1] - before[1]) / took)


def _of_detached(bench: Bench, home: PrivateDaemon) -> Callable[[], Share]:
    def run() -> Share:
        with home.working(busy=False):
            time.sleep(_START_S)
            return _share(home, bench.seconds)

    return run


def _of_waited(bench: Bench, home: PrivateDaemon, who: Client) -> Callable[[], Share]:
    def run() -> Share:
        with _waited(home, who, bench.seconds + 2 * _START_S):
            time.sleep(_START_S)
            return _share(home, bench.seconds)

    return run


def _beside_one(bench: Bench, home: PrivateDaemon) -> Iterator[Line]:
    """Pin the rival, so that the other CPUs are certainly idle."""
    others = len(cpus()) - 1
    with ExitStack() as end:
        who = end.enter_context(client(str(home.daemon.place)))
        end.enter_context(rivals(bench.program("rival"), 1, pinned=cpus()[:1])).start()
        ways = {"detached": _of_detached(bench, home), "waited": _of_waited(bench, home, who)}
        shares = interleaved(bench.repeat, ways)
    for name, found in shares.items():
        got = tuple(share.both / others for share in found)
        yield Line(f"one CPU busy, {name}: CPU time of the idle ones", got, "", OF_THE_IDLE, _about(found))
    yield from attempt("throughput", lambda: _throughput(bench, home))


def _idle(bench: Bench, home: PrivateDaemon) -> Iterator[Line]:
    with client(str(home.daemon.place)) as who:
        ways = {"detached": _of_detached(bench, home), "waited": _of_waited(bench, home, who)}
        shares = interleaved(bench.repeat, ways)
    for name, found in shares.items():
        got = tuple(share.both / len(cpus()) for share in found)
        yield Line(f"idle machine, {name}: CPU time of all", got, "", ALL_OF_IT, _about(found))


def _about(shares: list[Share]) -> str:
    helpers = Spread.of([share.helpers for share in shares]).median
    leads = Spread.of([share.leads for share in shares]).median
    return f"CPUs used: helpers {helpers:.2f}, lead {leads:.2f}, sum {helpers + leads:.2f}"


# -- throughput ----------------------------------------------------------------------


def _throughput(bench: Bench, home: PrivateDaemon) -> Iterator[Line]:
    """file.crc32 next to one rival, compared with one thread on the idle machine."""
    passes = max(1, round(bench.seconds / 2 * 4e9 / bench.size))

    def beside_rival() -> float:
        with rivals(bench.program("rival"), 1, pinned=cpus()[:1]) as rival:
            rival.start()
            return float(who.ask(do="waited")["seconds"])

    with client(str(home.daemon.place)) as who:
        who.ask(work="crc32", size=bench.size, passes=passes)
        ways: dict[str, Callable[[], float]] = {
            "alone": lambda: float(who.ask(do="alone")["seconds"]),
            "job": beside_rival,
        }
        found = interleaved(bench.repeat, ways)
    speed = quotients(found["alone"], found["job"])
    about = f"one thread on the idle machine: {Spread.of(found['alone']).median:.2f} s"
    name = "one CPU busy, waited file.crc32: throughput, of one undisturbed thread"
    yield Line(name, speed, "", Goal(0.9, at_least=True), about)
