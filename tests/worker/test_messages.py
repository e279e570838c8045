"""Messages of workers are read once, and a message that no sound worker would send is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask.v1 import jobs_pb2 as pb

from ktaskd.api.structs import struct_out
from ktaskd.model.worker import Applied
from ktaskd.worker import frames
from ktaskd.worker.codec import applied_to_json
from ktaskd.worker.failures import encoded
from ktaskd.worker.frames import Done, FrameInvalid
from ktaskd.worker.messages import (
    Failed,
    Message,
    Planned,
    Prior,
    Ready,
    Reply,
    Rests,
    Value,
    Wakes,
    parse,
)

PREPARED = {"by_prepare": [[1, 2]], "by_finish": [[3, 4]], "other": 5}


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (frames.READY, applied_to_json(Applied()), Ready(Applied())),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, 2]]}, Prior(7, 0, 9, [[1, 2]])),
        (frames.PLANNED, {"value": PREPARED}, Planned(7, Value(PREPARED, [], [[1, 2]], [[3, 4]]))),
        (
            frames.REPLY,
            {"cpu_ns": 1, "value": {"kept": [[0, 1]]}},
            Reply(7, 1, Value({"kept": [[0, 1]]}, [[0, 1]], [], [])),
        ),
        (frames.REPLY, {}, Reply(7, 0, Value({}, [], [], []))),
        (
            frames.FAILED,
            {"cpu_ns": 1, "errno": None, "dirty": [[0, 1]], "message": "m" * 5000, "exception": "E"},
            Failed(7, 1, "", "m" * 4096, 0, "E", [[0, 1]]),
        ),
        (frames.RESTS, {}, Rests(7)),
        (frames.WAKES, {}, Wakes(7)),
    ],
)
def test_message_when_a_worker_would_send_it_then_it_is_read(
    kind: int, body: dict[str, Any], message: Message
) -> None:
    assert parse(frames.pack_note(kind, 7, body)) == message


@given(st.integers(0, 2**64 - 1), st.binary(max_size=50))
def test_done_when_sent_then_as_packed(number: int, part: bytes) -> None:
    assert parse(frames.pack_done(number, number, number, part)) == Done(number, number, number, part)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (frames.PRIOR, {"start": 0, "end": 9}),
        (frames.PRIOR, {"start": "0", "end": 9, "holes": []}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1]]}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, "2"]]}),
        (frames.PRIOR, {"start": 0, "end": 9, "holes": [[1, 2**63]]}),
        (frames.PRIOR, {"start": -1, "end": 9, "holes": []}),
        (frames.REPLY, {"value": [1]}),
        (frames.REPLY, {"value": {"kept": 7}}),
        (frames.PRIOR, {"start": 9, "end": 0, "holes": []}),
        (frames.REPLY, {"cpu_ns": -1}),
        (frames.REPLY, {"cpu_ns": 10**400}),
        (frames.FAILED, {"cpu_ns": 2**64}),
        (frames.FAILED, {"errno": 2**31}),
        (frames.FAILED, {"message": ["m"]}),
        (frames.FAILED, {"exception": 7}),
        (frames.FAILED, {"errno": "EIO"}),
        (frames.FAILED, {"dirty": [1, 2]}),
        (frames.READY, {"cpulist": "0"}),
        (frames.JOB, {"function": "file.crc32"}),
    ],
)
def test_message_when_no_worker_would_send_it_then_refused(kind: int, body: dict[str, Any]) -> None:
    with pytest.raises(FrameInvalid):
        parse(frames.pack_note(kind, 7, body))


def nested(levels: int) -> dict[str, Any]:
    value: Any = []
    for _ in range(levels - 2):
        value = [value]
    return {"deep": value}


@pytest.mark.parametrize("kind", [frames.REPLY, frames.PLANNED])
def test_value_when_nested_too_deep_to_be_passed_on_then_refused(kind: int) -> None:
    flat: dict[str, Any] = {"flat": [[] for _ in range(3 * frames.NESTED_MAX)]}
    for value in (nested(frames.NESTED_MAX - 1), flat):
        assert parse(frames.pack_note(kind, 7, {"value": value}))
    with pytest.raises(FrameInvalid, match="nested"):
        parse(frames.pack_note(kind, 7, {"value": nested(frames.NESTED_MAX)}))


def test_part_when_nested_too_deep_to_be_passed_on_then_refused() -> None:
    assert frames.unpack_part(json.dumps(nested(frames.NESTED_MAX)).encode())
    with pytest.raises(FrameInvalid, match="nested"):
        frames.unpack_part(json.dumps(nested(frames.NESTED_MAX + 1)).encode())


def test_result_when_nested_too_deep_then_its_worker_sends_an_error_instead() -> None:
    assert encoded(nested(frames.NESTED_MAX))
    for value in (nested(frames.NESTED_MAX + 1), {"tuple": (nested(frames.NESTED_MAX - 1),)}):
        with pytest.raises(ValueError, match="nested"):
            encoded(value)


def test_value_when_as_deep_as_it_may_be_then_clients_can_read_it() -> None:
    value: dict[str, Any] = {}
    for _ in range(frames.NESTED_MAX - 1):
        value = {"deep": value}
    frames.unpack_part(json.dumps(value).encode())
    sent = pb.RunResponse(job=pb.Job(result=struct_out(value))).SerializeToString()
    assert pb.RunResponse.FromString(sent).job.result


def test_text_when_it_has_lone_surrogates_then_it_can_be_sent_on() -> None:
    failed = parse(frames.pack_note(frames.FAILED, 7, {"message": "no file a\udcff", "exception": "\udcff"}))
    assert failed == Failed(7, message="no file a\\udcff", exception="\\udcff", dirty=[])


@given(st.binary(max_size=60))
def test_frame_when_anything_then_a_message_or_refused(frame: bytes) -> None:
    with contextlib.suppress(FrameInvalid):
        parse(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x45",
        bytes([frames.DONE]),
        frames.pack_done(1, 2, 3, b"")[:-1],
        frames.pack_note(frames.REPLY, 1, {"a": 1})[:-1],
        frames.pack_note(frames.REPLY, 1) + b"[]",
        frames.pack_note(frames.REPLY, 1) + b'"a"',
        frames.pack_note(frames.REPLY, 1) + b"\xff",
        frames.pack_note(frames.REPLY, 1) + b"[" * 50_000,
    ],
)
def test_frame_when_broken_off_or_of_another_shape_then_refused(frame: bytes) -> None:
    with pytest.raises(FrameInvalid):
        parse(frame)
