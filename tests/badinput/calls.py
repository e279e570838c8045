"""Requests that are too large, no requests at all, and calls other than Run."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.badinput.case import Accept, Act, Case, Group, Refuse, answer_to, piece, run
from tests.badinput.other import OTHER
from tests.badinput.world import Outcome, World, handle, memfd
from tests.support.real_daemon import spec

TWO64 = 2**64 - 1
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


# -- request_id ------------------------------------------------------------------------------


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

# -- messages ----------------------------------------------------------------------------------

RUN = "ktask.v1.Jobs/Run"


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, size = len(data), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def deep(levels: int) -> bytes:
    """A Run with an argument that is a list in a list in a list."""
    value = b"\x08\x00"
    for _ in range(levels):
        value = field(6, field(1, value))
    return field(1, field(1, b"f") + field(2, field(1, field(1, b"x") + field(2, value))))


def sent(request: bytes, method: str = RUN, **options: Any) -> Act:
    return lambda world: world.raw(method, request, **options)


def large(size: int) -> bytes:
    return pb.RunRequest(spec=pb.JobSpec(labels={"a": "b" * size})).SerializeToString()


def unparsed(why: str) -> Refuse:
    message = (
        "request: got … bytes that are no message of the contract "
        f"(Error parsing message with type 'ktask.v1.…': {why})"
    )
    return Refuse("INVALID_ARGUMENT", "SPEC_INVALID", message)


BAD_TEXT = "String field had bad UTF-8"

MESSAGES: Group = (
    "Messages",
    [
        Case(
            "a message above 4 MiB",
            sent(large(4 << 20)),
            Refuse("RESOURCE_EXHAUSTED", "", "…eceived message larger than max (… vs. 4194304)"),
        ),
        Case(
            "a message of 64 MiB, compressed to 64 KiB",
            sent(large(64 << 20), compression=grpc.Compression.Gzip),
            Refuse("RESOURCE_EXHAUSTED", "", "Decompressed message larger than max"),
        ),
        Case(
            "an unknown method",
            sent(b"", "ktask.v1.Jobs/Explode"),
            Refuse("UNIMPLEMENTED", "", "Method not found!"),
        ),
        Case(
            "an empty message",
            sent(b""),
            Refuse(
                "INVALID_ARGUMENT",
                "SPEC_INVALID",
                'spec.function: got "", wanted the name of a function',
                "spec.function",
            ),
        ),
        Case("bytes that are no message", sent(b"\xff" * 64), unparsed("Wire format was corrupt")),
        Case("a message that is cut off", sent(b"\x0a\x7fselftest"), unparsed("Wire format was corrupt")),
        Case("a function's name that is no UTF-8", sent(field(1, field(1, b"\xff\xfe"))), unparsed(BAD_TEXT)),
        Case(
            "a path that is no UTF-8",
            sent(field(1, field(4, field(2, b"/\xed\xa0\x80")))),
            unparsed(BAD_TEXT),
        ),
        Case("a label that is no UTF-8", sent(field(1, field(9, field(1, b"\xc0\x80")))), unparsed(BAD_TEXT)),
        Case("a list, 200 deep", sent(deep(200)), unparsed("Exceeded upb_DecodeOptions_MaxDepth")),
        Case("a job's id that is no UTF-8", sent(field(1, b"\xff"), "ktask.v1.Jobs/Get"), unparsed(BAD_TEXT)),
        Case(
            "fields that are not in the contract",
            sent(field(15, b"x") + field(1, field(1, b"selftest.noop") + field(14, b"y"))),
            Accept("a newer client's, as protobuf has it"),
        ),
    ],
)

# -- calls ---------------------------------------------------------------------------------------

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

GROUPS = [LIMITS, REQUEST_IDS, MESSAGES, CALLS]
