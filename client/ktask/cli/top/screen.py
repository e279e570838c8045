"""The lines of the whole screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.text import Text

from ktask.cli.escaping import printable
from ktask.cli.text import LEVELS, format_mode
from ktask.cli.top import cpus, jobs
from ktask.cli.top.model import Page, State

if TYPE_CHECKING:
    from ktask.results import Reason
    from ktask.status import Present, Status

LEAST_COLUMNS, LEAST_ROWS = 40, 8

_NODES = 8
_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_BARS_ASCII = "_.:-=+*#"
_PRESSURES = {"cpu pressure": "cpu", "io pressure": "io", "memory pressure": "memory"}
_FACTS = {"power profile": "profile", "own cpu limit": "own limit", "user": "user"}
_QUIET = ("no ", "none", "not measured")
_FOOT = "q quit  h help  s sort  r reverse  c cancel  e explain  p pause  arrows"

HELP = """keys
  up, down, j, k     select a job; page up, page down, home, end
  s                  sort by the next one of: state, rate, time left, part done, user, function
  r                  reverse the order
  e, Enter           explain the job: what it waited for, and what limited it
  c                  cancel the job, after a question
  p                  pause all helpers, or return to auto (only uid 0 and the daemon's user may)
  h, ?               this help
  q                  quit; Ctrl-C does so too, and Ctrl-Z suspends

CPUs: each sign is the kind of work that took most of the CPU's time in the last second
  H  one of our helpers, which gives way to everything else
  L  one of our leads, which works on behalf of somebody who waits
  o  somebody else's program, or the kernel
  .  idle

node lines
  ours, others       parts of the CPU time of the node
  helpers 2/4        helpers that are at work, and helpers that may run

columns of jobs
  RATE, LEFT         measured over the last 5 seconds
  L+H                leads and helpers that are at work on it
""".splitlines()


def lines_of(state: State, *, plain: bool = False) -> list[Text]:
    """Exactly as many lines as the terminal has rows, none wider than its columns.

    Args:
        plain: use only ASCII.
    """
    columns, rows = state.size.columns, state.size.rows
    if columns < LEAST_COLUMNS or rows < LEAST_ROWS:
        lines = [Text(f"too small: {columns} x {rows}, needs {LEAST_COLUMNS} x {LEAST_ROWS}")]
    elif state.page is Page.HELP:
        lines = _page(HELP, state, rows)
    elif state.page is Page.TEXT:
        lines = _page(_folded(state.text, columns), state, rows)
    else:
        lines = _overview(state, plain=plain)
    # A frame always covers the one before.
    lines = [*lines[:rows], *[Text("")] * (rows - len(lines))]
    return [_cut(line, columns, plain=plain) for line in lines]


def _cut(line: Text, columns: int, *, plain: bool) -> Text:
    line = line.copy()
    line.no_wrap = True
    if plain and not line.plain.isascii():
        line.plain = (
            line.plain.replace("\N{HORIZONTAL ELLIPSIS}", "~")
            .replace(" °C", " C")
            .encode("ascii", "replace")
            .decode()
        )
    line.truncate(columns, overflow="crop")
    return line


def _folded(text: Sequence[str], columns: int) -> list[str]:
    folded: list[str] = []
    for line in text:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        parts = wrap(printable(line), columns, subsequent_indent=indent, drop_whitespace=False)
        folded += [part.rstrip() for part in parts] or [""]
    return folded


def _page(text: Sequence[str], state: State, rows: int) -> list[Text]:
    first = min(state.scroll, max(len(text) - (rows - 1), 0)) if state.page is Page.TEXT else 0
    body = [Text(line) for line in text[first : first + rows - 1]]
    body += [Text("")] * (rows - 1 - len(body))
    more = len(text) - first - (rows - 1)
    words = f"{more} more lines below; arrows scroll, any" if more > 0 else "any"
    return [*body, Text(f"{words} other key returns, q quits", style="reverse")]


def _overview(state: State, *, plain: bool) -> list[Text]:
    present, rows = state.present, state.size.rows
    if present is None:
        return [Text(printable(state.lost) or "waiting for the daemon")]
    head = [*_head(state, present), *_reasons(state, rows), *_readings(state, plain=plain)]
    head += _nodes(state, present)
    foot = [jobs.about(state.job, state.size.columns), _foot(state)]
    room = max(rows - len(head) - len(foot), 2)
    # The table gets at least its head and one job, if need be in the place of what is above.
    body = list(jobs.table(state, room))
    if not present.jobs:
        body.append(Text(" no jobs that have not ended", style="dim"))
    body += [Text("")] * (room - len(body))
    return [*head[: rows - len(foot) - room], *body[:room], *foot]


def _head(state: State, present: Present) -> Iterator[Text]:
    status = present.status
    level = LEVELS.get(status.allowance.level, status.allowance.level.lower())
    share = f", {status.allowance.share * 100:g} % of the time" if status.allowance.share < 1 else ""
    line = Text.assemble(("ktaskd ", "bold"), (printable(status.version), "bold"), "  mode ")
    line.append(format_mode(status), style="bold" if status.mode == "AUTO" else "bold reverse")
    line.append(f"  {_count(present)}  ")
    line.append(printable(level) + share, style="bold green" if level == LEVELS["RUN"] else "bold yellow")
    if status.draining:
        line.append("  draining: accepts no new jobs", style="bold red")
    yield line
    if state.lost:
        yield Text(printable(f"no connection, trying again: {state.lost}"), style="bold reverse")


def _count(present: Present) -> str:
    running = sum(not job.state.ended and job.state != "QUEUED" for job in present.jobs)
    queued = sum(job.state == "QUEUED" for job in present.jobs)
    more = f" and {present.jobs_omitted} more" if present.jobs_omitted else ""
    return f"jobs: {running} run, {queued} wait{more}"


def _reasons(state: State, rows: int) -> Iterator[Text]:
    """Every reason with its value and threshold first; at most a quarter of the screen."""
    reasons = state.present.status.allowance.reasons if state.present is not None else ()
    lines = [part for one in reasons for part in _reason(one, state.size.columns)]
    room = max(rows // 4, 1)
    yield from lines[:room]
    if len(lines) > room:
        yield Text("  more reasons: ktask status", style="yellow")


def _reason(reason: Reason, columns: int) -> Iterator[Text]:
    threshold = f" (threshold {reason.threshold})" if reason.threshold else ""
    measured = f" {reason.value}{threshold}:" if reason.value or threshold else ""
    since = f", since {reason.since.astimezone():%m-%d %H:%M}" if reason.since else ""
    words = printable(f"{reason.code}:{measured} {reason.message}{since}")
    for i, part in enumerate(wrap(words, columns - 2, subsequent_indent="  ", break_on_hyphens=False)):
        yield Text(("! " if not i else "  ") + part, style="yellow")


def _readings(state: State, *, plain: bool) -> Iterator[Text]:
    """Pressure with its last values, then power and heat."""
    status = state.present.status if state.present is not None else None
    if status is None:
        return
    width = max((state.size.columns - 8) // 3 - 17, 4)
    line = Text.assemble(("pressure ", "bold"))
    for name, short in _PRESSURES.items():
        values = state.history.get(name, ())
        now = f" {values[-1]:5.1f} %" if values else "     - "
        line.append(f"{short} ")
        line.append(sparkline(values, width, 100.0, plain=plain).ljust(width), style=_warmth(values))
        line.append(f"{now}  ")
    yield line
    yield _machine(state, status, plain=plain)


def _machine(state: State, status: Status, *, plain: bool) -> Text:
    values = {one.name: one.value for one in status.readings}
    line = Text.assemble(("power ", "bold"))
    line.append(printable(values.get("power", "no signal")))
    if battery := state.history.get("battery", ()):
        line.append(f" {battery[-1]:.0f} %")
    for name, short in _FACTS.items():
        value = values.get(name, "none")
        if not value.lower().startswith(_QUIET):
            line.append(f"  {short} ", style="bold")
            line.append(printable(value))
    heat = state.history.get("temperature", ())
    line.append("  heat ", style="bold")
    line.append(sparkline(heat, 8, 100.0, plain=plain, power=1.0) + " " if heat else "")
    line.append(printable(values.get("temperature", "no signal")))
    return line


def _warmth(values: Sequence[float]) -> str:
    last = values[-1] if values else 0.0
    return "red" if last >= 30 else "yellow" if last >= 10 else "green"


def sparkline(
    values: Sequence[float], width: int, top: float, *, plain: bool = False, power: float = 0.5
) -> str:
    """The last `width` values as bars from 0 to `top`.

    Args:
        power: below 1 it raises small values, so that they can be seen.
    """
    bars = _BARS_ASCII if plain else _BARS
    parts = (min(max(value / top, 0.0), 1.0) ** power for value in values[-width:])
    return "".join(bars[min(int(part * len(bars)), len(bars) - 1)] for part in parts)


def _nodes(state: State, present: Present) -> Iterator[Text]:
    status, columns = present.status, state.size.columns
    use = {one.cpu: one for one in present.cpus}
    allowed = {one.nid: one for one in status.allowance.nodes}
    shown = [node for node in status.nodes if node.cpulist][:_NODES]
    # All rows are as wide as the widest one, so that the numbers stand below each other.
    widest = max((cpus.cells_of(node, columns) for node in shown), default=0)
    for node in shown:
        yield cpus.node_line(node, allowed.get(node.nid), use, columns, widest)
    if len(status.nodes) > len(shown):
        yield Text(f"and {len(status.nodes) - len(shown)} more nodes: ktask status -v", style="dim")
    yield cpus.legend(max((cpus.cpus_each(node, columns) for node in shown), default=1))


def _foot(state: State) -> Text:
    if state.asks:
        return Text(
            f"cancel job {state.asks[:8]}? y cancels it, any other key does not", style="bold reverse"
        )
    if state.note:
        return Text(printable(state.note), style="bold reverse")
    order = f"sorted by {state.sort}{', reversed' if state.reverse else ''}"
    room = state.size.columns - len(_FOOT) - 2
    return Text(_FOOT + (f"  {order}" if len(order) <= room else ""), style="dim")
