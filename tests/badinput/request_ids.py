"""The same request_id for two jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, piece
from tests.badinput.world import Outcome, World, memfd
from tests.support.real_daemon import spec


def twice(first: Callable[[World, str], pb.JobSpec], second: Callable[[World, str], pb.JobSpec]) -> Act:
    """Two jobs with the same request_id, the second after the first has ended."""

    def act(world: World) -> Outcome:
        request_id = uuid.uuid4().hex
        before = world.run(first(world, request_id))
        world.extra_jobs += 1
        again = world.run(second(world, request_id))
        if isinstance(again, pb.Job):
            assert again.id == before.id
        return again

    return act


def noops(length: int) -> Callable[[World, str], pb.JobSpec]:
    return lambda world, name: spec("selftest.noop", ranges=[piece(0, length)], request_id=name)


def summing(world: World, name: str) -> pb.JobSpec:
    return world.spec("file.crc32", {"data": memfd()}, [], request_id=name)


def reused() -> Refuse:
    message = 'spec.request_id: "…" was used for another spec; send the same spec, or a new request_id'
    return Refuse("ALREADY_EXISTS", "REQUEST_ID_REUSED", message, "spec.request_id")


REQUEST_IDS: Group = (
    "The same `request_id` twice",
    [
        Case("with the same spec", twice(noops(5), noops(5)), Accept("the answer is the first job", jobs=0)),
        Case("with another range", twice(noops(5), noops(6)), reused()),
        Case("with another function", twice(noops(5), summing), reused()),
        Case("with another handle of the same file", twice(summing, summing), reused()),
    ],
)

GROUPS = [REQUEST_IDS]
