"""Row 3: never stuck. With more rivals than CPUs, a waited job goes at the single-threaded pace.

Each rival has a session of its own, and so has the client, like different users
of a full machine. The lead takes the place of the client's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.bench.interference.bench import Bench, attempt
from tests.bench.interference.client import Client, Json, client
from tests.bench.interference.line import Line
from tests.bench.interference.private_daemon import PrivateDaemon, private_daemon
from tests.bench.interference.programs import Unmeasured
from tests.bench.interference.rivals import cpus, crowd
from tests.bench.interference.rounds import interleaved, quotients
from tests.bench.measure import Goal, Spread

PACE = Goal(1.1, at_least=False)
_UNCUT_MS = 600.0
_LIMIT = 3.0
"""A job without a lead is given up after this many times the single-threaded time."""


@dataclass(frozen=True, slots=True)
class Case:
    """One function."""

    name: str
    request: Mapping[str, Any]


def cases(bench: Bench) -> list[Case]:
    """The works, each about a quarter of a window long if undisturbed."""
    # Bytes that one CPU processes in a second, roughly; it affects only the length of a round.
    rates = {"crc32": 4e9, "fill": 8e9, "copy": 3e9}
    wanted = bench.seconds / 4

    def passes(name: str) -> int:
        return max(1, round(wanted * rates[name] / bench.size))

    return [
        Case("file.crc32, writes nothing", _bytes("crc32", bench.size, passes("crc32"))),
        Case("mem.fill, writes", _bytes("fill", bench.size, passes("fill"))),
        Case("file.copy, writes", _bytes("copy", bench.size, passes("copy"))),
        Case("selftest.spin, one long unit", {"work": "spin", "units": 1, "ms": wanted * 1e3}),
        Case("selftest.spin, many long units", _units(wanted)),
    ]


def _bytes(name: str, size: int, passes: int) -> Mapping[str, Any]:
    return {"work": name, "size": size, "passes": passes}


def _units(seconds: float) -> Mapping[str, Any]:
    units = max(2, round(seconds * 1e3 / _UNCUT_MS))
    return {"work": "spin", "units": units, "ms": seconds * 1e3 / units}


def measure(bench: Bench) -> Iterator[Line]:
    """Measure each function waited for, in both modes, and detached."""
    with private_daemon(bench.directory, "row3") as home:
        modes, without = _modes(home)
        for case in cases(bench):
            yield from attempt(case.name, lambda case=case: _case(bench, home, case, modes))  # type: ignore[misc]
    yield from without


def _modes(home: PrivateDaemon) -> tuple[list[str], list[Line]]:
    """The modes to measure in: without a governor only the existing one."""
    try:
        home.set_mode("always")
    except Unmeasured as error:
        return [""], [Line("all of these in mode auto", why=str(error))]
    return ["always", "auto"], []


def _case(bench: Bench, home: PrivateDaemon, case: Case, modes: list[str]) -> Iterator[Line]:
    with ExitStack() as end:
        who = end.enter_context(client(str(home.daemon.place)))
        who.ask(**case.request)
        end.enter_context(crowd(bench.program("rival"), len(cpus()) + 1))
        ways: dict[str, Callable[[], Json]] = {"alone": lambda: who.ask(do="alone")}
        for mode in modes:
            ways[mode] = lambda mode=mode: _waited(home, who, mode)  # type: ignore[misc]
        found = interleaved(bench.repeat, ways)
        last = {"alone": ways["alone"], "detached": _detached(home, who, modes[0], found["alone"])}
        without_lead = interleaved(1, last)
    alone = [each["seconds"] for each in found["alone"]]
    yield Line(f"{case.name}, in the client's process", tuple(alone), "s")
    for mode in modes:
        name = f"{case.name}, waited{', mode ' + mode if mode else ''}"
        ratio = quotients([each["seconds"] for each in found[mode]], alone)
        yield Line(name, ratio, "", PACE, _about(found[mode]))
    yield _without_lead(case.name, without_lead)


def _waited(home: PrivateDaemon, who: Client, mode: str) -> Json:
    if mode:
        home.set_mode(mode)
    return who.ask(do="waited")


def _detached(home: PrivateDaemon, who: Client, mode: str, alone: list[Json]) -> Callable[[], Json]:
    """Run with helpers only, and give up after GIVEN_UP times the time alone."""
    limit = _LIMIT * Spread.of([each["seconds"] for each in alone]).median

    def run() -> Json:
        if mode:
            home.set_mode(mode)
        return who.ask(do="detached", limit=limit)

    return run


def _about(answers: list[Json]) -> str:
    lead, helpers, recalled, raised = (
        Spread.of([each[name] for each in answers]).median
        for name in ("lead", "helpers", "recalled", "raised")
    )
    return (
        f"CPU of the last job: lead {lead:.2f} s, helpers {helpers:.2f} s; "
        f"chunks recalled {recalled:g}, helpers raised {raised:g}"
    )


def _without_lead(name: str, found: Mapping[str, list[Json]]) -> Line:
    """The time of the same job with helpers only, once; a bound if it was given up."""
    (alone,), (detached,) = found["alone"], found["detached"]
    about, bound = ("helpers only", "") if detached["ended"] else ("helpers only; was given up then", ">=")
    return Line(f"{name}, detached", (detached["seconds"] / alone["seconds"],), about=about, bound=bound)
