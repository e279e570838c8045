"""The states of a job and their transitions, as a table. Pure.

All transitions are in NEXT; ARCHITECTURE.md has its picture, made by
`picture()`. Events that come from outside may arrive in any state: IGNORE in
the table means that the event changes nothing. An event that is not listed
for a state is a bug of ours and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ktaskd.model.job import JobState


class Event(Enum):
    """The events that change the state of a job."""

    START = "start"
    """The first worker is about to get a part of the job."""
    ALL_DONE = "all done"
    """Every position was processed."""
    FINISHED = "finished"
    """The results are combined and the function has finished."""
    STOP = "stop"
    """The job failed, was cancelled, or has passed its deadline."""
    DRAINED = "drained"
    """No worker holds a chunk of the job any more."""
    END_FAILED = "end: failed"
    """The undo after an error is over."""
    END_CANCELLED = "end: cancelled"
    """The undo after a cancel is over."""
    END_DIRTY = "end: dirty"
    """Something could not be undone."""


IGNORE = None
"""The event is legal in this state and changes nothing."""

NEXT: Mapping[tuple[JobState, Event], JobState | None] = {
    (JobState.QUEUED, Event.START): JobState.RUNNING,
    (JobState.QUEUED, Event.STOP): JobState.DRAINING,
    (JobState.RUNNING, Event.ALL_DONE): JobState.COMBINING,
    (JobState.RUNNING, Event.STOP): JobState.DRAINING,
    (JobState.COMBINING, Event.FINISHED): JobState.SUCCEEDED,
    (JobState.COMBINING, Event.STOP): JobState.DRAINING,
    (JobState.DRAINING, Event.DRAINED): JobState.UNDOING,
    (JobState.DRAINING, Event.STOP): IGNORE,
    (JobState.UNDOING, Event.END_FAILED): JobState.FAILED,
    (JobState.UNDOING, Event.END_CANCELLED): JobState.CANCELLED,
    (JobState.UNDOING, Event.END_DIRTY): JobState.DIRTY,
    (JobState.UNDOING, Event.STOP): IGNORE,
    (JobState.SUCCEEDED, Event.STOP): IGNORE,
    (JobState.FAILED, Event.STOP): IGNORE,
    (JobState.CANCELLED, Event.STOP): IGNORE,
    (JobState.DIRTY, Event.STOP): IGNORE,
}


class IllegalTransition(Exception):
    """An event arrived in a state that does not expect it: a bug of ours."""


def step(state: JobState, event: Event) -> JobState:
    """Return the state after an event; raises IllegalTransition if the table has no entry."""
    try:
        after = NEXT[state, event]
    except KeyError:
        raise IllegalTransition(f'job in state {state.name}: got event "{event.value}"') from None
    return state if after is IGNORE else after


def picture() -> str:
    """Return the table as a Mermaid state diagram, without ignored events."""
    lines = ["stateDiagram-v2", "    [*] --> QUEUED"]
    lines += [
        f"    {state.name} --> {after.name}: {event.value}" for (state, event), after in NEXT.items() if after
    ]
    lines += [f"    {state.name} --> [*]" for state in JobState if state.ended]
    return "\n".join(lines)
