"""A case: bad input, the action with it, and the required outcome."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktask.v1 import jobs_pb2 as pb

from tests.badinput.world import PATTERN, SIZE, Maker, Outcome, World, attempt
from tests.support.real_daemon import Refusal, state_name

Act = Callable[[World], Outcome]
Effect = Callable[[World, Any], None]

ANY = "…"
"""Stands for the parts of a message that differ each time."""


@dataclass(frozen=True)
class Refuse:
    """The input is refused, and leaves nothing behind.

    Args:
        code: gRPC's status code, or HANDOFF.
        reason: ErrorInfo's; "" if gRPC itself refused.
        message: the whole message; ANY stands for parts that vary.
        field: BadRequest's; "" = none.
    """

    code: str
    reason: str
    message: str
    field: str = ""
    jobs: int = 0

    def check(self, outcome: Outcome, world: World) -> None:
        """Fail unless it ended so."""
        assert isinstance(outcome, Refusal), f"not refused: {outcome}"
        got = (outcome.code, outcome.reason, outcome.field, outcome.domain)
        assert got == (self.code, self.reason, self.field, "ktask" if self.reason else ""), outcome
        check_message(outcome.message, self.message)


@dataclass(frozen=True)
class End:
    """The input is accepted, since nobody can know better at that time, and the job ends badly.

    Args:
        errno: by name, as in "ENODATA".
        effect: checks more of the job, and sets which bytes may differ.
    """

    state: str
    reason: str
    errno: int
    message: str
    effect: Effect = field(default=lambda world, job: None)
    jobs: int = 1

    def check(self, outcome: Outcome, world: World) -> None:
        """Fail unless it ended so."""
        assert isinstance(outcome, pb.Job), f"no job: {outcome}"
        got = (state_name(outcome), outcome.error.reason, outcome.error.errno)
        assert got == (self.state, self.reason, self.errno), outcome
        assert bool(outcome.error.dirty) == (self.state == "DIRTY")
        check_message(outcome.error.message, self.message)
        self.effect(world, outcome)


@dataclass(frozen=True)
class Accept:
    """The input only looks bad: the job does what it says.

    Args:
        why: for the table.
        effect: checks the answer, and makes the job's changes to the expected bytes.
    """

    why: str
    effect: Effect = field(default=lambda world, job: None)
    jobs: int = 1
    state: str = "SUCCEEDED"

    def check(self, outcome: Outcome, world: World) -> None:
        """Fail unless it did."""
        assert not isinstance(outcome, Refusal), outcome
        if isinstance(outcome, pb.Job):
            assert state_name(outcome) == self.state, outcome
        self.effect(world, outcome)


@dataclass(frozen=True)
class Case:
    """One bad input.

    Args:
        what: in words, for the table; unique.
        other: the case needs another user.
    """

    what: str
    act: Act
    wanted: Refuse | End | Accept
    other: bool = False


def slug(text: str) -> str:
    """A text as part of a test's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


Group = tuple[str, Sequence[Case]]
"""A title and its cases."""


def check_message(got: str, wanted: str) -> None:
    """Fail unless the whole message is as wanted."""
    pattern = ".*".join(re.escape(part) for part in wanted.split(ANY))
    assert re.fullmatch(pattern, got, re.DOTALL), f"message: {got!r}, wanted: {wanted!r}"


# -- acts ------------------------------------------------------------------------------


def run(
    function: str,
    sources: dict[str, Maker] | None = None,
    *,
    items: Sequence[Maker] = (),
    tweak: Callable[[pb.JobSpec], object] = lambda spec: None,
    **fields: Any,
) -> Act:
    """Run a job.

    Args:
        tweak: changes the spec in ways that JSON cannot express.
    """

    def act(world: World) -> Outcome:
        wanted = world.spec(function, sources or {}, items, **fields)
        tweak(wanted)
        return world.run(wanted)

    return act


def piece(start: int, length: int, **more: Any) -> dict[str, Any]:
    """A range."""
    return {"start": str(start), "length": str(length), **more}


def answer_to(method: str, request: Any) -> Act:
    """A call of Jobs or Control with an unchanged request; of a stream, the first message."""

    def act(world: World) -> Outcome:
        stub = world.jobs if hasattr(world.jobs, method) else world.control

        def call() -> Any:
            response = getattr(stub, method)(request, timeout=30)
            if hasattr(response, "DESCRIPTOR"):
                return response
            first = next(iter(response))
            response.cancel()
            return first

        return attempt(call)

    return act


# -- effects ---------------------------------------------------------------------------


def summed(start: int = 0, end: int = SIZE) -> Effect:
    """The right checksum of the pattern."""

    def effect(world: World, job: pb.Job) -> None:
        got = {name: value.number_value for name, value in job.result.fields.items()}
        assert got == {"crc32": zlib.crc32(PATTERN[start:end]), "bytes": end - start}

    return effect


def items_summed(*sizes: int) -> Effect:
    """The right checksum of each item, which is a part of the pattern of this length."""

    def effect(world: World, job: pb.Job) -> None:
        got = [item.struct_value.fields for item in job.result.fields["items"].list_value.values]
        sums = [(one["crc32"].number_value, one["bytes"].number_value) for one in got]
        assert sums == [(zlib.crc32(PATTERN[:size]), size) for size in sizes]

    return effect


def filled(value: int, start: int = 0, end: int = SIZE) -> Effect:
    """Bytes of "data" were set."""

    def effect(world: World, job: pb.Job) -> None:
        world.roles["data"].expected[start:end] = bytes([value]) * (end - start)

    return effect


def counted(*ranges: tuple[int, int]) -> Effect:
    """selftest.undo_log added 1 to bytes of "data"."""

    def effect(world: World, job: pb.Job) -> None:
        expected = world.roles["data"].expected
        for start, end in ranges:
            expected[start:end] = bytes((byte + 1) % 256 for byte in expected[start:end])

    return effect
