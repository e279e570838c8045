"""Which functions of jobs run for one event, in order, as the interpreter's profile sees them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tests.jobs.simulated import READER, Simulation
from tests.jobs.simulated_worker import SimulatedWorker

ROOM = "ktaskd.jobs."
"""The packages that are walked; workers and the kernel are doubles here."""

LEAVES = frozenset({"dispatch", "demand"})
"""Demand and dispatch are a story of their own, so calls inside these make no line."""

LEFT_OUT = frozenset(
    {"__init__", "__get__", "__getitem__", "<lambda>", "<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}
)


@dataclass
class Walk:
    """Calls from one module into another.

    Args:
        lines: the functions, each indented by how deep it is.
        edges: (caller, callee), as modules; those inside the leaves too.
    """

    lines: list[str] = field(default_factory=list)
    edges: set[tuple[str, str]] = field(default_factory=set)

    @property
    def modules(self) -> set[str]:
        """The modules that a reader of the lines comes by."""
        return {line.strip().partition(".")[0] for line in self.lines}


@contextmanager
def walked() -> Iterator[Walk]:
    """Note every function that another module calls, but for looks at one value (properties)."""
    walk = Walk()
    stack: list[str] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(ROOM) or frame.f_code.co_name in LEFT_OUT or _is_property(frame):
            return
        if event == "return":
            if stack:
                stack.pop()
        elif event == "call":
            name = module.removeprefix(ROOM)
            caller = stack[-1] if stack else ""
            if name != caller and LEAVES.isdisjoint(stack):
                walk.lines.append(f"{'    ' * _changes(stack)}{name}.{frame.f_code.co_name}")
            if caller and name != caller:
                walk.edges.add((caller, name))
            stack.append(name)

    sys.setprofile(profile)
    try:
        yield walk
    finally:
        sys.setprofile(None)


def _changes(stack: list[str]) -> int:
    return sum(not i or stack[i - 1] != name for i, name in enumerate(stack))


def _is_property(frame: FrameType) -> bool:
    owner: Any = frame.f_locals.get("self")
    found = getattr(type(owner), frame.f_code.co_name, None) if owner is not None else None
    return isinstance(found, property)


def helper_at_work(sim: Simulation) -> SimulatedWorker:
    """The helper of a job that reads, some chunks after its beginning."""
    sim.fill()
    sim.submit(READER, 100, threads=1, waited=False, chunk=10)
    for _ in range(2):
        (helper,) = (worker for worker in sim.workers if worker.queue)
        helper.begin()
        helper.answer()
    helper.begin()
    return helper
