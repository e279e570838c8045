"""The table of jobs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ktask.cli.clients import files_count, format_command, names_of
from ktask.cli.escaping import printable
from ktask.cli.text import format_bytes, format_reason
from ktask.cli.top.rates import rate_of
from ktask.cli.top.sorting import part_done

if TYPE_CHECKING:
    from ktask.cli.top.model import State
    from ktask.results import Job

_WIDE = 110
"""From this width on there are columns for the reason to wait and for the command."""

_LONG = 200
"""Longest command; the column cuts it."""

_STYLES = {
    "RUNNING": "green",
    "QUEUED": "yellow",
    "SUCCEEDED": "dim",
    "FAILED": "bold red",
    "DIRTY": "bold red",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column; width 0 = it shares the room that is left, by weight."""

    head: str
    width: int
    cell: Callable[[State, Job], str]
    right: bool = False
    weight: int = 0
    keep_end: bool = False


def _columns(columns: int) -> list[_Column]:
    found = [
        _Column("ID", 8, lambda _, job: job.id[:8]),
        _Column("STATE", 9, lambda _, job: job.state.lower()),
        _Column("FUNCTION", 14 if columns < _WIDE else 18, lambda _, job: job.function),
        _Column("FILES", 0, lambda _, job: _files(job), weight=2, keep_end=True),
        _Column("USER", 7, lambda state, job: state.users.get(job.owner.uid, str(job.owner.uid))),
        _Column("DONE", 4, lambda _, job: f"{int(part_done(job) * 100)}%", right=True),
        _Column("RATE", 8, _rate, right=True),
        _Column("LEFT", 6, _left, right=True),
        _Column("L+H", 5, lambda _, job: _workers(job), right=True),
    ]
    if columns >= _WIDE:
        found.append(_Column("WAITS FOR", 14, lambda _, job: _why(job)))
        found.append(_Column("COMMAND", 0, lambda _, job: format_command(job, _LONG), weight=3))
    return found


def table(state: State, rows: int) -> Iterator[Text]:
    """The head and the jobs around the selected one, in at most `rows` lines."""
    columns = state.size.columns
    chosen = _columns(columns)
    widths = _widths(chosen, columns)
    heads = [_cell(column.head, width, column) for column, width in zip(chosen, widths, strict=True)]
    yield Text(" " + " ".join(heads), style="bold underline")
    jobs = state.jobs
    first, count = _window(jobs, state.selected, max(rows - 1, 1))
    for job in jobs[first : first + count]:
        yield _row(state, job, chosen, widths)


def _window(jobs: Sequence[Job], selected: str, room: int) -> tuple[int, int]:
    """The first row to show and how many, so that the selected one is among them."""
    at = next((row for row, job in enumerate(jobs) if job.id == selected), 0)
    return max(min(at - room // 2, len(jobs) - room), 0), room


def _widths(chosen: Sequence[_Column], columns: int) -> list[int]:
    fixed = sum(column.width for column in chosen) + len(chosen)
    weights = sum(column.weight for column in chosen)
    room = max(columns - fixed, 0)
    return [column.width or room * column.weight // weights for column in chosen]


def _row(state: State, job: Job, chosen: Sequence[_Column], widths: Sequence[int]) -> Text:
    is_selected = job.id == state.selected
    line = Text(">" if is_selected else " ")
    for i, (column, width) in enumerate(zip(chosen, widths, strict=True)):
        style = _STYLES.get(job.state, "") if column.head == "STATE" and not is_selected else ""
        line.append(" " if i else "")
        line.append(_cell(printable(column.cell(state, job)), width, column), style=style)
    if is_selected:
        line.stylize("reverse")
    elif job.state.ended:
        line.stylize("dim")
    return line


def _cell(text: str, width: int, column: _Column) -> str:
    """A text of exactly this many cells of the terminal."""
    if column.keep_end and cell_len(text) > width:
        while text and cell_len(text) > width - 1:
            text = text[1:]
        text = "\N{HORIZONTAL ELLIPSIS}" + text
    if column.right and cell_len(text) < width:
        return " " * (width - cell_len(text)) + text
    return set_cell_size(text, width)


def _files(job: Job) -> str:
    names = names_of(job)
    if not names:
        return "-"
    more = files_count(job) - 1
    return f"{more} more, {names[0]}" if more > 0 else names[0]


def _rate(state: State, job: Job) -> str:
    rate = rate_of(job, state.samples)
    if rate is None or rate.positions <= 0:
        return "-"
    if rate.bytes > 0:
        # "245.8M/s" in the place of "245.8 MiB/s": eight cells.
        return format_bytes(int(rate.bytes)).replace(" ", "").removesuffix("iB") + "/s"
    return f"{rate.positions:.3g}/s"


def _left(state: State, job: Job) -> str:
    rate = rate_of(job, state.samples)
    return "-" if rate is None or rate.left_s is None else short_duration(rate.left_s)


def short_duration(seconds: float) -> str:
    """A duration in at most six characters, such as "9s", "3m05s", "2h03m" or "4d02h"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02d}h" if days < 100 else ">100d"


def _workers(job: Job) -> str:
    return f"{job.progress.running_leads}+{job.progress.running_helpers}"


def _why(job: Job) -> str:
    return job.waiting_reasons[0].code if job.waiting_reasons else "-"


def about(job: Job | None, columns: int) -> Text:
    """One line on the selected job: its command, and what it waits for."""
    if job is None:
        return Text("")
    parts = [format_command(job, columns // 2)] if job.command else []
    if job.error is not None:
        parts.append(f"{job.error.reason}: {job.error.message}")
    elif job.waiting_reasons:
        parts.append("waits for " + format_reason(job.waiting_reasons[0]))
    text = Text(printable(f"{job.id[:8]}: " + "; ".join(parts)) if parts else "")
    text.truncate(columns, overflow="ellipsis")
    return text
