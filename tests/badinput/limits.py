"""Specs with more of something than its limit, and labels without a proper name."""

from __future__ import annotations

from typing import Any

from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, piece, run
from tests.badinput.world import handle

UNNAMED = 'spec.labels["{name}"]: got "{name}", wanted a name that is not empty and has no "=" in it'


def limit(what: str, got: str, most: int, field: str = "") -> Refuse:
    message = f"{what}: got {got}, wanted at most {most}"
    return Refuse("INVALID_ARGUMENT", "LIMIT_EXCEEDED", message, field or what)


def noop(**fields: Any) -> Act:
    return run("selftest.noop", **fields)


def many_items(spec: pb.JobSpec) -> None:
    spec.items.extend([pb.Source(handle="h")] * 100_001)


LIMITS: Group = (
    "Limits",
    [
        Case(
            "17 sources",
            run("file.crc32", {f"role{i}": handle("h") for i in range(17)}),
            limit("spec.sources", "17 sources", 16),
        ),
        Case(
            "100,001 items", run("file.crc32", tweak=many_items), limit("spec.items", "100001 items", 100_000)
        ),
        Case(
            "4097 ranges",
            noop(ranges=[piece(i, 1) for i in range(4097)]),
            limit("spec.ranges", "4097 ranges", 4096),
        ),
        Case(
            "17 labels", noop(labels={str(i): "" for i in range(17)}), limit("spec.labels", "17 labels", 16)
        ),
        Case(
            "a label of 257 bytes", noop(labels={"é": "x" * 255}), limit('spec.labels["é"]', "257 bytes", 256)
        ),
        Case(
            "a label without a name",
            noop(labels={"": "x"}),
            Refuse("INVALID_ARGUMENT", "SPEC_INVALID", UNNAMED.format(name=""), 'spec.labels[""]'),
        ),
        Case(
            'a label with "=" in its name',
            noop(labels={"a=b": "x"}),
            Refuse("INVALID_ARGUMENT", "SPEC_INVALID", UNNAMED.format(name="a=b"), 'spec.labels["a=b"]'),
        ),
        Case(
            "a label's name of 1 MiB",
            noop(labels={"k" * (1 << 20): ""}),
            limit(f'spec.labels["{"k" * 32}"]', "1048576 bytes", 256),
        ),
        Case(
            "a `request_id` of 129 characters",
            noop(request_id="x" * 129),
            limit("spec.request_id", "129 characters", 128),
        ),
        Case(
            "arguments of 16,385 bytes",
            noop(arg={"x": "y" * 16_384}),
            limit("spec.arg", "16385 bytes", 16_384),
        ),
        Case(
            "an argument's name of 1 MiB",
            noop(arg={"n" * (1 << 20): 1}),
            limit("spec.arg", "1048599 bytes or more", 16_384),
        ),
        Case(
            "all of the limits' most",
            noop(
                labels={f"{i:02}": "x" * 254 for i in range(16)},
                request_id="x" * 128,
                ranges=[piece(i, 1) for i in range(4096)],
            ),
            Accept("they are the most, not too many"),
        ),
    ],
)

GROUPS = [LIMITS]
