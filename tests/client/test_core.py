"""A job's description from Python arguments, and the names of the package."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ktask import convert
from ktask.core import EXACT_INT_MAX, RESERVED_ROLES, Draft, make_spec
from ktask.errors import JobFailed
from ktask.results import JobState, Span
from ktask.v1 import jobs_pb2 as pb


def spec(**fields: Any) -> pb.JobSpec:
    default_nid = fields.pop("default_nid", None)
    return make_spec(Draft("f", **fields), default_nid)


def test_spec_when_nothing_is_said_then_nothing_is_sent() -> None:
    assert spec() == pb.JobSpec(function="f")


def test_undo_when_true_then_absent_and_when_false_then_said() -> None:
    assert not spec(undo=True).HasField("undo")
    assert spec(undo=False).HasField("undo")
    assert spec(undo=False).undo is False


def test_ranges_when_without_node_then_the_default_one_and_else_theirs() -> None:
    ranges = spec(ranges=[(1, 2), (3, 4, 5), [6, 7, -1]]).ranges
    assert [(r.start, r.length, r.nid if r.HasField("nid") else None) for r in ranges] == [
        (1, 2, None),
        (3, 4, 5),
        (6, 7, -1),
    ]
    ranges = spec(ranges=[(1, 2), (3, 4, 0)], default_nid=-1).ranges
    assert [r.nid for r in ranges] == [-1, 0]


def test_ranges_when_numpy_integers_then_taken() -> None:
    assert spec(ranges=[(np.int64(4096), np.uint32(8))]).ranges[0].start == 4096


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ranges": [(-1, 2)]}, ValueError, "ranges[0] start: got -1, wanted 0 to"),
        ({"ranges": [(0, 2), (0, 2**64)]}, ValueError, "ranges[1] length"),
        ({"ranges": [(0, 1, -2)]}, ValueError, "ranges[0] nid: got -2, wanted -1 to"),
        ({"ranges": [(0, 1.5)]}, TypeError, "got 1.5, wanted an integer"),
        ({"ranges": [(0, True)]}, TypeError, "got True, wanted an integer"),
        ({"ranges": [7]}, TypeError, "wanted (start, length)"),
        ({"ranges": ["12"]}, TypeError, "wanted (start, length)"),
        ({"ranges": [(1, 2, 3, 4)]}, TypeError, "wanted (start, length)"),
        ({"min_chunk": -1}, ValueError, "min_chunk: got -1"),
        ({"max_threads": 2**32}, ValueError, "max_threads: got 4294967296"),
        ({"max_threads": "2"}, TypeError, "max_threads: got '2', wanted an integer"),
        ({"undo": 1}, TypeError, "undo: got 1, wanted True or False"),
        ({"arg": [1]}, TypeError, "arg: got [1], wanted a mapping"),
        ({"arg": {"a": None}}, TypeError, 'arg "a": got None'),
        ({"arg": {"a": b"x"}}, TypeError, "arg \"a\": got b'x'"),
        ({"arg": {"a": float("nan")}}, ValueError, 'arg "a": got nan, wanted a finite number'),
        ({"arg": {1: 2}}, TypeError, "arg name: got 1, wanted a str"),
        ({"arg": {"a": "\udcff"}}, ValueError, "UTF-8"),
        ({"labels": ["a=b"]}, TypeError, "labels: got ['a=b'], wanted a mapping"),
        ({"labels": {"a": 1}}, TypeError, 'label "a": got 1, wanted a str'),
        ({"labels": {3: "b"}}, TypeError, "label: got 3, wanted a str"),
        ({"labels": {"": "b"}}, ValueError, 'label "": wanted a name that is not empty'),
        ({"labels": {"a=b": "c"}}, ValueError, 'label "a=b": wanted a name that is not empty and has no "="'),
        ({"labels": {"a": "\udcff"}}, ValueError, "UTF-8"),
        ({"sources": {"labels": "x"}}, TypeError, '"labels": is a keyword of this call'),
        ({"sources": {"timeout": "x"}}, TypeError, '"timeout": is a keyword of this call'),
        ({"sources": {"combine": "x"}}, TypeError, '"combine": is a keyword of this call'),
    ],
)
def test_spec_when_wrong_then_the_error_names_the_argument_and_a_valid_value(
    fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        spec(**fields)
    assert words in str(caught.value)


def test_reserved_roles_when_compared_then_the_keywords_of_run() -> None:
    import inspect

    import ktask

    parameters = inspect.signature(ktask.Client.run).parameters
    keywords = {name for name in parameters if name not in ("self", "sources")}
    assert keywords | {"combine"} == RESERVED_ROLES
    defaults = {name: parameters[name].default for name in ("min_chunk", "max_threads", "undo", "timeout")}
    assert defaults == {"min_chunk": 0, "max_threads": 0, "undo": True, "timeout": None}


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text())
def test_arg_when_sent_and_read_then_the_same_and_large_integers_as_text(value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return
    read = convert.plain(spec(arg={"a": value}).arg)["a"]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT_INT_MAX:
        value = str(value)
    assert read == value
    assert isinstance(read, str | bool) == isinstance(value, str | bool)


def test_job_when_full_then_all_of_it_is_read() -> None:
    message = pb.Job(id="j", state=pb.JOB_STATE_DIRTY, detached=True, sequence=9)
    message.spec.function = "f"
    message.spec.sources["data"].path = "/x"
    message.spec.ranges.add(start=1, length=2, nid=-1)
    message.spec.undo = False
    message.create_time.FromNanoseconds(1_500_000_000)
    message.error.reason = "WORKER_LOST"
    message.error.chunk.start = 5
    message.error.chunk.end = 6
    message.error.dirty.add(start=5, end=6)
    message.waiting_reasons.add(code="LEAD_LIMIT", message="wait")
    message.plan.threads = 3
    job = convert.job(message)
    assert (job.id, job.function, job.state, job.detached, job.sequence) == ("j", "f", "DIRTY", True, 9)
    assert job.state.ended
    assert not JobState.UNDOING.ended
    assert job.result is None
    assert job.create_time == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)
    assert job.end_time is None
    assert job.spec.undo is False
    assert job.spec.sources["data"].path == "/x"
    assert job.spec.ranges[0].nid == -1
    assert job.error is not None
    assert job.error.dirty == (Span(5, 6),)
    assert job.error.chunk == Span(5, 6)
    assert job.waiting_reasons[0].code == "LEAD_LIMIT"
    assert job.plan is not None
    assert job.plan.threads == 3
    assert str(JobFailed(job)) == "job j (f) ended DIRTY; WORKER_LOST; dirty: [5, 6)"


def test_job_when_its_state_is_of_a_newer_daemon_then_unspecified() -> None:
    message = pb.Job.FromString(b"\x18\x63")
    assert convert.job(message).state is JobState.UNSPECIFIED


def test_import_when_only_the_contract_then_no_client_and_no_grpc() -> None:
    code = (
        "import sys, ktask, ktask.v1.jobs_pb2, ktask.v1.control_pb2, ktask.v1.handoff\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'grpc' or m.startswith('ktask.') "
        "and not m.startswith('ktask.v1')])\n"
        "assert set(ktask.__all__) <= set(dir(ktask))\n"
        "[getattr(ktask, name) for name in ktask.__all__]\n"
        "assert not [m for m in sys.modules if m.startswith('ktaskd')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_package_when_asked_for_an_unknown_name_then_an_attribute_error() -> None:
    import ktask

    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = ktask.nope
