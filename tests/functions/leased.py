"""Runs a body as its worker does while the daemon takes parts of its leases for other workers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Body, Context, Json
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.model.function import Access, ArgValue, Declaration
from ktaskd.model.spans import SpanSet
from ktaskd.planner.threads import round_up
from ktaskd.pool.instructed import Instructed
from ktaskd.pool.outbox import Outbox
from ktaskd.worker.frames import SLOT_BYTES, SLOT_ORDERED, Done, Lease, LeaseDone
from ktaskd.worker.sources import Source
from tests.functions.inprocess import MIB, PAGE, Recorder, content, opened, seal
from tests.worker.scheduled import Page, Wire, chunks_of

LEASED = sorted(name for name, declaration in CATALOGUE.items() if declaration.quantum)

ARGUMENTS: dict[str, dict[str, ArgValue]] = {
    "mem.fill": {"value": 7},
    "mem.pattern": {"record": "000102030405060708090a0b0c", "index_at": 1, "index_bytes": 8},
    "text.search": {"pattern": "needle", "show": "offsets", "limit": 50},
    "text.extract": {"pattern": "needle"},
    "array.reduce": {"dtype": "int64", "op": "sum"},
    "array.map": {"dtype": "int64", "ufunc": "invert"},
}
"""Arguments without a default, and others that make a call interesting."""

OFTEN = 0.2
"""How often a lease is shortened when its worker looks at the words of its page."""

BY_MOMENT = {"resident_before", "resident_after", "changed"}
"""Results that depend on the moment."""


def size_of(declaration: Declaration) -> int:
    """Some quanta and a tail, of whole numbers for arrays."""
    return max(min(3 * declaration.quantum, 24 * MIB), declaration.quantum) + 3 * PAGE + 8


def text_of(size: int, *, long_lines: bool = False) -> bytes:
    """Lines with a word in some of them; or lines of more than one quantum."""
    lines = [b"a needle\n", b"hay " * (300_000 if long_lines else 20) + b"\n", b"\n", b"hay and needle\n"]
    block = b"".join(lines)
    return (block * (size // len(block) + 1))[:size]


@contextmanager
def job_of(
    declaration: Declaration, kind: str, directory: Path, size: int, start: int = 0, **content: bytes
) -> Iterator[Context]:
    """A job over [start, size) of sources of a kind."""
    with ExitStack() as stack:
        sources: dict[str, Source] = {}
        for i, role in enumerate(declaration.sources):
            name = f"{i}-{declaration.name}"
            source = stack.enter_context(opened(kind, directory, access=role.access, name=name))
            os.ftruncate(source.fd, size)
            if role.access is Access.READ or declaration.name in ("array.map", "file.punch"):
                os.pwrite(source.fd, content.get(role.role, text_of(size)), 0)
            elif declaration.name != "text.extract":  # which needs zeros
                os.pwrite(source.fd, b"x" * (size // 3), size // 4)
            if kind == "sealed":
                seal(source)
            sources[role.role] = source
        defaults = {item.name: item.default for item in declaration.arguments if item.default is not None}
        arg = {**defaults, **ARGUMENTS.get(declaration.name, {})}
        yield Context(arg, sources, {}, (start, size), start == 0)


def outcome(body: Body, declaration: Declaration, context: Context, parts: list[Json]) -> Any:
    """The result of a job, and what its sources hold."""
    result = body.combine(context, parts) if declaration.combine else {}
    return {
        "result": {name: value for name, value in result.items() if name not in BY_MOMENT},
        "content": {role: content(cast(Source, source)) for role, source in context.sources.items()},
    }


def in_one_piece(body: Body, declaration: Declaration, context: Context) -> Any:
    """The same without an interruption."""
    body.begin(context, body.prepare(context))
    reached, part = body.run(context, *context.span, Recorder())
    assert reached == context.span[1]
    return outcome(body, declaration, context, [] if part is None else [part])


class Steps(Recorder):
    """Sees that no step is longer than declared, and stops the body after some of them."""

    def __init__(self, declaration: Declaration, stop_after: int) -> None:
        super().__init__(stop_after)
        self._declaration = declaration
        self.claim = 0

    def quantum(self, position: int) -> bool:
        stops = super().quantum(position)
        if len(self.positions) > 1:
            assert self.positions[-2] <= position <= self.claim, "a step is longer than declared"
        if not stops:
            self.claim = round_up(position + self._declaration.quantum, max(self._declaration.align, 1))
        return stops


def in_steps(body: Body, declaration: Declaration, context: Context, random: Random) -> Any:
    """The same with many interruptions."""
    body.begin(context, body.prepare(context))
    at, end = context.span
    parts: list[Json] = []
    while at < end:
        steps = Steps(declaration, random.choice([1, 1, 2, 3, 9]))
        reached, part = body.run(context, at, end, steps)
        assert at <= reached <= max(steps.claim, at)
        assert reached in (end, at) or reached % max(declaration.align, 1) == 0
        if part is not None and reached > at:
            parts.append(part)
        at = reached
    return outcome(body, declaration, context, parts)


class Divided:
    """One body that is given all leases of a job in turn, while the daemon shortens them for others."""

    def __init__(self, name: str, context: Context, random: Random) -> None:
        self.declaration, self.body = CATALOGUE[name], find(name)
        self.context, self._random = context, random
        words = memoryview(bytearray(SLOT_BYTES)).cast("Q")
        words[SLOT_ORDERED] = 1
        self._wire = Wire()
        self._daemon = Instructed(words, cast(Outbox, Wire()))
        page = Page(words, self._maybe_shorten)
        self._chunks = chunks_of(page, self._wire, self.declaration, self.body, context)
        self._waiting = [context.span]
        self._held = (0, 0)
        self.done = SpanSet()
        self._parts: dict[int, Json] = {}

    def _maybe_shorten(self) -> None:
        start, before = self._held
        if self._random.random() > OFTEN or before <= start:
            return
        align = max(self.declaration.align, 1)
        cut = min(round_up(self._random.randrange(start, before), align), before)
        end = self._daemon.shorten(cut)
        if end < before:
            self._held = (start, end)
            self._waiting.append((end, before))

    def run(self) -> Any:
        """The outcome of the job."""
        self.body.begin(self.context, self.body.prepare(self.context))
        while self._waiting:
            self._lease(*self._waiting.pop())
        start, end = self.context.span
        assert self.done.covers(start, end)
        assert self.done.total == end - start
        parts = [self._parts[at] for at in sorted(self._parts)]
        return outcome(self.body, self.declaration, self.context, parts)

    def _lease(self, start: int, end: int) -> None:
        self._held = (start, end)
        self._wire.frames.clear()
        seq = self._daemon.send_lease(1, start, end)
        self._chunks.process_lease(Lease(seq, 1, start, end))
        answers = [answer for answer in self._wire.answers if isinstance(answer, Done | LeaseDone)]
        at = start
        for answer in answers:
            assert at <= answer.reached <= self._held[1], "the daemon would take it for nonsense"
            if answer.part:
                assert at not in self._parts
                self._parts[at] = json.loads(answer.part)
            if answer.reached > at:
                assert not self.done.overlaps(at, answer.reached), "worked on twice"
                self.done.add(at, answer.reached)
            at = answer.reached
        assert isinstance(answers[-1], Done), self._wire.answers
        if at < self._held[1]:
            self._waiting.append((at, self._held[1]))
