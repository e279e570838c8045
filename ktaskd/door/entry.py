"""The parts that both public doors share: they decide who connects, and who comes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ktaskd.door.admission.turns import Turns
from ktaskd.door.callers.reception import Reception


@dataclass(frozen=True, slots=True)
class Entry:
    """The parts that every door of one daemon uses. Make it in a running loop.

    Args:
        turns: decides whose connections and calls come in next.
        reception: identifies whoever connects.
        on_change: called whenever a connection was opened or closed.
    """

    turns: Turns = field(default_factory=Turns)
    reception: Reception = field(default_factory=Reception)
    on_change: Callable[[], None] = lambda: None
