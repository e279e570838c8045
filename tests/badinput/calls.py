"""Bad requests of calls other than Run."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, answer_to
from tests.badinput.limits import limit
from tests.badinput.other import OTHER
from tests.badinput.world import Outcome, World
from tests.support.real_daemon import spec

TWO64 = 2**64 - 1

NO_ID = "0" * 32


def both_or_neither(method: str, request: type[Message]) -> list[Case]:
    def refuse(got: str) -> Refuse:
        return Refuse(
            "INVALID_ARGUMENT", "SPEC_INVALID", f"id, request_id: got {got}, wanted one of them", "id"
        )

    def unknown(name: str) -> Refuse:
        return Refuse(
            "NOT_FOUND", "JOB_UNKNOWN", f"{name}: no such job of yours; List has those that there are"
        )

    return [
        Case(
            f"`{method}` by id and request_id",
            answer_to(method, request(id=NO_ID, request_id="x")),
            refuse("both"),
        ),
        Case(f"`{method}` by neither", answer_to(method, request()), refuse("neither")),
        Case(f"`{method}` of an unknown id", answer_to(method, request(id=NO_ID)), unknown(f'id "{NO_ID}"')),
        Case(
            f"`{method}` of an unknown request_id",
            answer_to(method, request(request_id="none")),
            unknown('request_id "none"'),
        ),
        Case(
            f"`{method}` of an id of 1 MiB",
            answer_to(method, request(id="x" * (1 << 20))),
            unknown(f'id "{"x" * 64}"'),
        ),
        Case(f"`{method}` of another user's job", of_another(method, request), unknown('id "…"'), other=True),
    ]


def of_another(method: str, request: type[Message]) -> Act:
    def act(world: World) -> Outcome:
        job = world.run(spec("selftest.noop"))
        world.extra_jobs += 1
        return world.other.call(f"ktask.v1.Jobs/{method}", request(id=job.id))

    return act


def by_other(method: str, request: Message) -> Act:
    return lambda world: world.other.call(f"ktask.v1.Control/{method}", request)


def denied(what: str) -> Refuse:
    message = f"uid {OTHER} may not {what}: only uid 0 and the daemon's own uid may"
    return Refuse("PERMISSION_DENIED", "NOT_ALLOWED", message)


def watched(world: World) -> Outcome:
    job = world.run(spec("selftest.noop"))
    world.extra_jobs += 1
    return answer_to("Watch", pb.WatchRequest(id=job.id, after_sequence=TWO64))(world)


def is_final(world: World, message: Any) -> None:
    assert message.final


def listing(**fields: Any) -> Act:
    return answer_to("List", pb.ListRequest(**fields))


def token(text: str, shown: str = "") -> Case:
    message = f'page_token: got "{shown or text}", wanted next_page_token of the previous answer'
    return Case(
        f"`List` with the page_token {shown + '…' if shown else text}",
        listing(page_token=text),
        Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message, "page_token"),
    )


def state(number: int) -> Case:
    request = pb.ListRequest()
    request.MergeFromString(b"\x1a" + bytes([len(encoded := varint(number))]) + encoded)
    return Case(
        f"`List` of the state {number}",
        answer_to("List", request),
        Refuse("INVALID_ARGUMENT", "SPEC_INVALID", f"states: got {number}, wanted a JobState", "states"),
    )


def varint(number: int) -> bytes:
    number %= 1 << 64
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def mode(number: int) -> Case:
    request = control_pb2.SetModeRequest()
    request.MergeFromString(b"\x08" + varint(number))
    names = "MODE_AUTO, MODE_ALWAYS, MODE_PAUSED"
    return Case(
        f"`SetMode` to the mode {number}",
        answer_to("SetMode", request),
        Refuse("INVALID_ARGUMENT", "SPEC_INVALID", f"mode: got {number}, wanted one of {names}", "mode"),
    )


def mode_for(mode: control_pb2.Mode.ValueType, seconds: int, nanos: int = 0) -> Act:
    request = control_pb2.SetModeRequest(mode=mode)
    request.duration.seconds, request.duration.nanos = seconds, nanos
    return answer_to("SetMode", request)


def duration(message: str) -> Refuse:
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", f"duration: {message}", "duration")


def status_every(seconds: int, nanos: int = 0) -> Act:
    request = control_pb2.WatchStatusRequest()
    request.min_interval.seconds, request.min_interval.nanos = seconds, nanos
    return answer_to("WatchStatus", request)


CALLS: Group = (
    "Other calls",
    [
        *both_or_neither("Get", pb.GetRequest),
        *both_or_neither("Watch", pb.WatchRequest),
        *both_or_neither("Cancel", pb.CancelRequest),
        Case(
            "`Watch` after the sequence 2^64-1",
            watched,
            Accept("nothing came after it but the end", is_final, jobs=0),
        ),
        token("garbage"),
        token("-1"),
        token("\N{ARABIC-INDIC DIGIT THREE}"),
        token("9" * 5000, "9" * 64),
        state(0),
        state(99),
        state(-1),
        Case(
            "`List` with a page_size of 2^32-1",
            listing(page_size=2**32 - 1),
            Accept("at most 1000 in one answer", jobs=0),
        ),
        Case(
            "`List` of 17 labels",
            listing(labels={str(i): "" for i in range(17)}),
            limit("labels", "17 labels", 16),
        ),
        Case("`List` of an unknown function", listing(function="no.such"), Accept("there are none", jobs=0)),
        Case(
            "`ListFunctions` of an unknown one",
            answer_to("ListFunctions", pb.ListFunctionsRequest(name="no.such")),
            Refuse("NOT_FOUND", "FUNCTION_UNKNOWN", 'name: no function "no.such" here', "name"),
        ),
        Case(
            "`WatchStatus` with a negative min_interval",
            status_every(-5),
            Accept("0.1 s is the least", jobs=0),
        ),
        Case(
            "`WatchStatus` with a min_interval of -2^63 s and 2^31-1 ns",
            status_every(-(2**63), 2**31 - 1),
            Accept("0.1 s is the least", jobs=0),
        ),
        Case(
            "`WatchStatus` with a min_interval of 2^63-1 s",
            status_every(2**63 - 1),
            Accept("the first message comes at once", jobs=0),
        ),
        mode(0),
        mode(4),
        mode(-1),
        Case(
            "`SetMode` to MODE_AUTO for a minute",
            mode_for(control_pb2.MODE_AUTO, 60),
            duration("got one for MODE_AUTO, which never ends; leave it out"),
        ),
        *(
            Case(
                f"`SetMode` for {seconds} s and {nanos} ns",
                mode_for(control_pb2.MODE_PAUSED, seconds, nanos),
                duration(f"got {seconds} s and {nanos} ns, wanted more than 0 and at most {366 * 86400} s"),
            )
            for seconds, nanos in ((0, 0), (-1, 0), (1, -1), (1, 10**9), (366 * 86400, 1), (2**63 - 1, 0))
        ),
        Case(
            "`SetMode` by another user",
            by_other("SetMode", control_pb2.SetModeRequest(mode=control_pb2.MODE_PAUSED)),
            denied("set the mode"),
            other=True,
        ),
        Case(
            "`Drain` by another user",
            by_other("Drain", control_pb2.DrainRequest()),
            denied("drain the daemon"),
            other=True,
        ),
        Case(
            "`Reload` by another user",
            by_other("Reload", control_pb2.ReloadRequest()),
            denied("reload the configuration"),
            other=True,
        ),
    ],
)

GROUPS = [CALLS]
