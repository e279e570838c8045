"""Requests and answers of every size: refused in words, or answered.

Guards: I12
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    refused,
    running,
    spec,
    state_name,
    until,
)
from tests.support.users import reachable_directory


@pytest.fixture(scope="module")
def own_daemon() -> Iterator[Daemon]:
    """A daemon for these tests alone, so that their jobs do not affect others."""
    with reachable_directory() as place, running(place / "run") as daemon:
        yield daemon


@pytest.fixture
def own(own_daemon: Daemon) -> Iterator[Stubs]:
    with connected(own_daemon.socket) as stubs:
        yield stubs


LONG = "ä" * 15_000


CRC, NOOP = "file.crc32", "selftest.noop"
MOST = str(2**64 - 1)


@pytest.mark.parametrize(
    ("function", "fields", "code", "reason"),
    [
        (NOOP, {"arg": {LONG[:7000]: 1}}, "INVALID_ARGUMENT", "ARGUMENT_INVALID"),
        ("selftest.spin", {"arg": {"ms": LONG[:7000]}}, "INVALID_ARGUMENT", "ARGUMENT_INVALID"),
        (NOOP, {"arg": {"x": LONG}}, "INVALID_ARGUMENT", "LIMIT_EXCEEDED"),
        (CRC, {"sources": {LONG: {"path": "/x"}}}, "INVALID_ARGUMENT", "SOURCE_INVALID"),
        (CRC, {"sources": {"data": {"path": "/" + LONG}}}, "INVALID_ARGUMENT", "SOURCE_INVALID"),
        (CRC, {"sources": {"data": {"handle": LONG}}}, "NOT_FOUND", "HANDLE_UNKNOWN"),
        (CRC, {"items": [{"handle": LONG}] * 3}, "NOT_FOUND", "HANDLE_UNKNOWN"),
        (CRC, {"items": [{"path": "/x"}] * 100_001}, "INVALID_ARGUMENT", "LIMIT_EXCEEDED"),
        (NOOP, {"labels": {"x": LONG}}, "INVALID_ARGUMENT", "LIMIT_EXCEEDED"),
        (NOOP, {"request_id": LONG}, "INVALID_ARGUMENT", "LIMIT_EXCEEDED"),
        (NOOP, {"ranges": [{"start": MOST, "length": MOST}]}, "OUT_OF_RANGE", "RANGE_BEYOND_END"),
        (NOOP, {"ranges": [{"length": "1", "nid": 2**31 - 1}]}, "INVALID_ARGUMENT", "SPEC_INVALID"),
        (NOOP, {"ranges": [{}] * 4097}, "INVALID_ARGUMENT", "LIMIT_EXCEEDED"),
    ],
)
def test_spec_when_it_is_too_much_then_refused_with_a_reason(
    own: Stubs, function: str, fields: dict[str, Any], code: str, reason: str
) -> None:
    refusal = refused(own.jobs.Run, pb.RunRequest(spec=spec(function, **fields)))
    assert (refusal.code, refusal.reason) == (code, reason)
    assert refusal.domain == "ktask"


def test_spec_when_its_numbers_are_the_largest_then_they_are_clamped(own: Stubs) -> None:
    wanted = spec(NOOP, max_threads=2**32 - 1, min_chunk=MOST, ranges=[{"length": str(2**63 - 1)}])
    assert state_name(own.jobs.Run(pb.RunRequest(spec=wanted), timeout=PATIENCE_S).job) == "SUCCEEDED"


def test_spec_when_the_function_has_a_long_name_then_refused_with_a_reason(own: Stubs) -> None:
    assert refused(own.jobs.Submit, pb.SubmitRequest(spec=spec(LONG))).reason == "LIMIT_EXCEEDED"
    functions = refused(own.jobs.ListFunctions, pb.ListFunctionsRequest(name=LONG))
    assert functions.reason == "FUNCTION_UNKNOWN"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"path": "x"}, "SOURCE_INVALID"),
        ({"path": "/nonexistent/x"}, "PATH_NOT_FOUND"),
        ({"path": "/dev/null"}, "FD_UNSUITABLE"),
        ({"path": "/proc/self/status"}, "FD_UNSUITABLE"),
        ({"handle": "x"}, "HANDLE_UNKNOWN"),
        ({}, "SOURCE_INVALID"),
    ],
)
def test_source_when_it_cannot_be_had_then_the_field_is_named(
    own: Stubs, source: object, reason: str
) -> None:
    refusal = refused(own.jobs.Run, pb.RunRequest(spec=spec(CRC, sources={"data": source})))
    assert (refusal.reason, refusal.field) == (reason, 'spec.sources["data"]')
    refusal = refused(own.jobs.Run, pb.RunRequest(spec=spec(CRC, items=[{"path": __file__}, source])))
    assert (refusal.reason, refusal.field) == (reason, "spec.items[1]")


def test_names_when_they_are_long_then_refused_with_a_reason(own: Stubs) -> None:
    assert refused(own.jobs.Get, pb.GetRequest(id=LONG)).reason == "JOB_UNKNOWN"
    assert refused(own.jobs.Watch, pb.WatchRequest(request_id=LONG)).reason == "JOB_UNKNOWN"
    assert refused(own.jobs.List, pb.ListRequest(page_token="9" * 9999)).reason == "SPEC_INVALID"


def test_list_when_jobs_are_large_then_pages_are_short_and_none_is_missing(
    own: Stubs, tmp_path: Path
) -> None:
    empty = {"start": str(2**62), "length": "0", "nid": -1}
    of = {"of": "large"}
    ids = [own.jobs.Run(pb.RunRequest(spec=spec(NOOP, ranges=[empty] * 4096, labels=of))).job.id]
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"%0200d\n" % i for i in range(90)))
    arg = {"pattern": "0", "show": "lines", "limit": 90}
    wanted = spec("text.search", items=[{"path": str(path)}] * 22, arg=arg, labels=of)
    jobs = [own.jobs.Run(pb.RunRequest(spec=wanted), timeout=PATIENCE_S).job for _ in range(6)]
    assert min(job.ByteSize() for job in jobs) > 150_000
    ids += [job.id for job in jobs]
    found: list[str] = []
    pages, token = 0, ""
    while not pages or token:
        page = own.jobs.List(pb.ListRequest(page_size=1000, page_token=token, labels=of))
        assert page.ByteSize() < 1024 * 1024
        found += [job.id for job in page.jobs]
        pages, token = pages + 1, page.next_page_token
    assert found == ids[::-1]
    assert pages > 1
    told = page.jobs[-1].spec
    assert (len(told.ranges), told.ranges_omitted) == (64, 4032)


def test_job_when_its_spec_fills_a_message_then_a_client_with_usual_limits_can_read_it(
    own: Stubs, tmp_path: Path
) -> None:
    path = tmp_path.joinpath("/".join(["y" * 250] * 7))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"yes")
    items = 4 * 1024 * 1024 // (len(str(path)) + 8)
    wanted = spec("file.crc32", items=[{"path": str(path)}] * items, request_id="fills")
    assert wanted.ByteSize() > 4_000_000
    job = own.jobs.Run(pb.RunRequest(spec=wanted), timeout=PATIENCE_S).job
    assert state_name(job) == "SUCCEEDED"
    assert len(json_format.MessageToDict(job.result)["items"]) == items
    assert 0 < len(job.spec.items) < items
    assert len(job.spec.items) + job.spec.items_omitted == items
    *_, last = own.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S)
    assert last.job == job
    # Parts of the spec that are not remembered are compared as well when it is sent again.
    assert own.jobs.Submit(pb.SubmitRequest(spec=wanted), timeout=PATIENCE_S).job.id == job.id
    wanted.items[-1].path = "/dev/null"
    reused = refused(own.jobs.Submit, pb.SubmitRequest(spec=wanted))
    assert (reused.code, reused.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


def test_results_when_there_are_many_then_every_message_is_small_and_resumes(
    own: Stubs, tmp_path: Path
) -> None:
    text = tmp_path / "lines"
    text.write_bytes(b"a\n" * 800)
    arg = {"pattern": "a", "show": "lines", "limit": 1000}
    wanted = spec("text.search", items=[{"path": str(text)}] * 200, arg=arg)
    job = own.jobs.Run(pb.RunRequest(spec=wanted), timeout=PATIENCE_S).job
    assert json_format.MessageToDict(job.result) == {"items_omitted": 200}
    indices: list[int] = []
    after, final = 0, False
    while not final:
        # A watch that is cut after every second message.
        stream = own.jobs.Watch(pb.WatchRequest(id=job.id, after_sequence=after), timeout=PATIENCE_S)
        for _, message in zip(range(2), stream, strict=False):
            assert message.ByteSize() < 256 * 1024
            indices += [one.index for one in message.results]
            after, final = message.sequence, message.final
        stream.cancel()
    assert indices == list(range(200))


def test_error_when_thousands_of_spans_are_dirty_then_the_first_are_told_with_the_hull(
    own: Stubs, tmp_path: Path
) -> None:
    page, pairs = mmap.PAGESIZE, 2500
    target, source = tmp_path / "target", tmp_path / "source"
    with target.open("wb") as file:
        for i in range(pairs):
            os.pwrite(file.fileno(), b"old", 2 * i * page)
        file.truncate(2 * pairs * page)
    source.write_bytes(b"new!" * (2 * pairs * page // 4))
    roles = {"src": {"path": str(source)}, "dst": {"path": str(target)}}
    running_copy = own.jobs.Run.future(
        pb.RunRequest(spec=spec("file.copy", sources=roles, request_id="many"))
    )
    # Change its source as soon as it has changed its target.
    until(lambda: target.read_bytes()[:4] == b"new!" or running_copy.done(), "it writes")
    os.truncate(source, 2 * pairs * page + 1)
    job = running_copy.result(PATIENCE_S).job
    if state_name(job) == "SUCCEEDED":
        pytest.skip("the copy was over before its source was changed")
    error = job.error
    assert state_name(job) == "DIRTY"
    assert job.ByteSize() < 128 * 1024
    assert len(error.dirty) <= 1000
    assert (error.dirty_hull.start, error.dirty_hull.end >= error.dirty[-1].end) == (0, True)
    assert own.jobs.Get(pb.GetRequest(request_id="many")).job == job


def test_list_and_status_when_2000_jobs_are_kept_then_answered(own: Stubs) -> None:
    noop = spec("selftest.noop", ranges=[{"length": "1"}], labels={"of": "many"})
    ids: set[str] = set()
    for _ in range(41):
        calls = [own.jobs.Submit.future(pb.SubmitRequest(spec=noop)) for _ in range(50)]
        ids |= {call.result(PATIENCE_S).job.id for call in calls}

    def counters() -> dict[str, int]:
        status = own.control.GetStatus(control_pb2.GetStatusRequest()).status
        return {counter.name: counter.value for counter in status.counters}

    until(lambda: counters()["jobs_unended"] == 0, "all jobs have ended")
    assert counters()["jobs_kept"] == 2000
    found: list[str] = []
    token = ""
    sizes: list[int] = []
    while not sizes or token:
        request = pb.ListRequest(page_size=5000, page_token=token, labels={"of": "many"})
        page = own.jobs.List(request)
        sizes.append(len(page.jobs))
        found += [job.id for job in page.jobs]
        token = page.next_page_token
    assert max(sizes) == 1000
    assert len(set(found)) == len(found) == 2000
    assert set(found) < ids
    first = own.jobs.List(pb.ListRequest())
    assert [job.id for job in first.jobs] == found[:100]
    assert first.next_page_token
    none = own.jobs.List(pb.ListRequest(labels={"of": "none"}))
    assert (list(none.jobs), none.next_page_token) == ([], "")
