"""The state of the view, and what each event makes of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from ktask.cli.top.rates import Samples, sampled
from ktask.cli.top.sorting import Sort, in_order

if TYPE_CHECKING:
    from ktask.results import Job
    from ktask.status import Present

HISTORY = 120
"""Values of each reading that are kept."""

PAGE = 10
"""Rows of a page up or down."""

_NUMBER = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?) (?:%|°C)")


class Page(StrEnum):
    """The parts of the view."""

    JOBS = "jobs"
    HELP = "help"
    TEXT = "text"
    """A text about one job."""


# -- events -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the stream, when it came in seconds, and the names of its users by uid."""

    present: Present
    at_s: float
    users: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that was pressed, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the terminal."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream was cut; it is opened again."""

    why: str


@dataclass(frozen=True, slots=True)
class Note:
    """The result of an action, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class Story:
    """The text about one job."""

    text: str


Event = Message | Key | Size | Lost | Note | Story


# -- actions ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quit:
    """End the view."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a job."""

    id: str


@dataclass(frozen=True, slots=True)
class Explain:
    """Fetch the text about a job."""

    id: str


@dataclass(frozen=True, slots=True)
class SetMode:
    """Set the mode, "paused" or "auto"."""

    mode: str


Action = Quit | Cancel | Explain | SetMode


@dataclass(frozen=True, slots=True)
class State:
    """All that is shown.

    Args:
        present: the newest message; None before the first.
        history: the last values of each reading that has a number, oldest first.
        selected: id of the selected job; "" = none.
        asks: id of the job that the user is asked about before it is cancelled; "" = none.
        note: the result of the last action.
        lost: why nothing comes at present; "" = the stream is open.
        text: shown on the page TEXT, from line `scroll` on.
    """

    size: Size
    present: Present | None = None
    samples: Samples = field(default_factory=dict)
    history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    users: Mapping[int, str] = field(default_factory=dict)
    sort: Sort = Sort.STATE
    reverse: bool = False
    selected: str = ""
    page: Page = Page.JOBS
    asks: str = ""
    note: str = ""
    lost: str = ""
    text: tuple[str, ...] = ()
    scroll: int = 0

    @property
    def jobs(self) -> list[Job]:
        """The jobs in the order in which they are shown."""
        jobs = self.present.jobs if self.present is not None else ()
        return in_order(jobs, self.sort, self.samples, self.users, reverse=self.reverse)

    @property
    def job(self) -> Job | None:
        """The selected job."""
        return next((job for job in self.jobs if job.id == self.selected), None)


def reduce(state: State, event: Event) -> tuple[State, Action | None]:
    """The next state, and what is to be done."""
    match event:
        case Message():
            return _updated(state, event), None
        case Key():
            return _pressed(state, event.name)
        case Size():
            return replace(state, size=event), None
        case Lost():
            return replace(state, lost=event.why), None
        case Note():
            return replace(state, note=event.text), None
        case Story():
            lines = tuple(event.text.splitlines())
            return replace(state, page=Page.TEXT, text=lines, scroll=0, note=""), None


def _updated(state: State, message: Message) -> State:
    """Take a message; a selected job that is gone gives its row to its neighbour."""
    present = message.present
    at = _row(state)
    state = replace(
        state,
        present=present,
        samples=sampled(state.samples, present.jobs, message.at_s),
        history=_history(state.history, present),
        users={**state.users, **message.users},
        lost="",
    )
    return _select(state, at) if state.job is None else state


def _history(before: Mapping[str, tuple[float, ...]], present: Present) -> Mapping[str, tuple[float, ...]]:
    found = {
        one.name: number for one in present.status.readings if (number := number_in(one.value)) is not None
    }
    return {name: (*before.get(name, ())[1 - HISTORY :], number) for name, number in found.items()}


def number_in(value: str) -> float | None:
    """The percentage or temperature in the words of a reading; None if it has none."""
    found = _NUMBER.search(value)
    return float(found.group(1)) if found is not None else None


# -- keys -------------------------------------------------------------------------


def _pressed(state: State, key: str) -> tuple[State, Action | None]:
    if state.asks:
        # Any key but "y" withdraws the question, so that nothing is cancelled by mistake.
        action = Cancel(state.asks) if key == "y" else None
        return replace(state, asks="", note="" if action else "not cancelled"), action
    if key in ("q", "Q"):
        return state, Quit()
    if key in ("h", "?"):
        return replace(state, page=Page.JOBS if state.page is Page.HELP else Page.HELP), None
    if state.page is not Page.JOBS:
        return _scrolled(state, key), None
    state = replace(state, note="")
    if key in _STEPS:
        return _select(state, _row(state) + _STEPS[key]), None
    handle = _KEYS.get(key)
    return handle(state) if handle is not None else (state, None)


_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -PAGE, "page down": PAGE}
_STEPS |= {"home": -1_000_000, "end": 1_000_000}


def _scrolled(state: State, key: str) -> State:
    if key in _STEPS:
        last = max(len(state.text) - 1, 0)
        return replace(state, scroll=min(max(state.scroll + _STEPS[key], 0), last))
    return replace(state, page=Page.JOBS, note="")


def _row(state: State) -> int:
    return next((row for row, job in enumerate(state.jobs) if job.id == state.selected), 0)


def _select(state: State, row: int) -> State:
    jobs = state.jobs
    return replace(state, selected=jobs[min(max(row, 0), len(jobs) - 1)].id if jobs else "")


def _sort(state: State) -> tuple[State, Action | None]:
    kinds = list(Sort)
    sort = kinds[(kinds.index(state.sort) + 1) % len(kinds)]
    return replace(state, sort=sort, note=f"sorted by {sort}"), None


def _reverse(state: State) -> tuple[State, Action | None]:
    return replace(state, reverse=not state.reverse), None


def _mode(state: State) -> tuple[State, Action | None]:
    if state.present is None:
        return state, None
    mode = "auto" if state.present.status.mode == "PAUSED" else "paused"
    return replace(state, note=f"setting the mode to {mode}"), SetMode(mode)


def _cancel(state: State) -> tuple[State, Action | None]:
    job = state.job
    if job is None:
        return replace(state, note="no job is selected"), None
    if job.state.ended:
        return replace(state, note=f"job {job.id[:8]} has ended"), None
    return replace(state, asks=job.id), None


def _explain(state: State) -> tuple[State, Action | None]:
    if state.job is None:
        return replace(state, note="no job is selected"), None
    return state, Explain(state.job.id)


_KEYS: Mapping[str, Callable[[State], tuple[State, Action | None]]] = {
    "s": _sort,
    "r": _reverse,
    "p": _mode,
    "c": _cancel,
    "e": _explain,
    "enter": _explain,
}
