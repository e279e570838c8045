"""Callers that wait, follow, come back, or go away before their job has ended.

Guards: I6
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    find_by_request,
    handed_over,
    memory,
    refused,
    spec,
    spin,
    state_name,
    until,
    wait_ended,
    wait_state,
)

SIZE = 4096
LONG: dict[str, Any] = {"delay_ms": 2}
"""Of SIZE bytes: far longer than any test waits."""


def fresh() -> str:
    return uuid.uuid4().hex


def undo_log(handle: str, **fields: Any) -> pb.JobSpec:
    """A long job that leaves a 1 where it was done and a 17 where it was undone as well."""
    return spec(
        "selftest.undo_log",
        arg=LONG,
        sources={"data": {"handle": handle}},
        ranges=[{"length": str(SIZE)}],
        **fields,
    )


def check_undone(job: pb.Job, fd: int) -> None:
    """Each byte is as if never touched, or was done once and undone once, as the job says."""
    data = os.pread(fd, SIZE, 0)
    undone = bytearray(SIZE)
    for span in job.error.undone:
        undone[span.start : span.end] = bytes([17]) * (span.end - span.start)
    assert data == undone
    assert any(undone), "it was stopped before it had done anything"


def wait_progress(stubs: Stubs, request_id: str) -> pb.Job:
    """Until some positions are done."""
    job = find_by_request(stubs.jobs, request_id)
    call = stubs.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S)
    for message in call:
        if message.job.progress.positions_done > 8:
            call.cancel()
            return message.job
    raise AssertionError(f"ended before it was looked at: {message.job}")


# -- Run --------------------------------------------------------------------------


@pytest.mark.parametrize("detached", [False, True])
def test_run_when_the_call_is_cancelled_then_the_job_is_undone(
    daemon: Daemon, stubs: Stubs, detached: bool
) -> None:
    with memory(SIZE) as fd, handed_over(daemon.handoff, fd) as (handle,):
        request_id = fresh()
        wanted = undo_log(handle, request_id=request_id)
        if detached:
            stubs.jobs.Submit(pb.SubmitRequest(spec=wanted))
        call = stubs.jobs.Run.future(pb.RunRequest(spec=wanted))
        seen = wait_progress(stubs, request_id)
        assert seen.detached == detached
        call.cancel()
        if detached:
            # Somebody waited for it and left; it was submitted to go on without.
            with pytest.raises(grpc.FutureCancelledError):
                call.result()
            more = stubs.jobs.Watch(pb.WatchRequest(id=seen.id), timeout=PATIENCE_S)
            done = next(m.job for m in more if m.job.progress.positions_done > seen.progress.positions_done)
            more.cancel()
            assert state_name(done) == "RUNNING"
            stubs.jobs.Cancel(pb.CancelRequest(id=seen.id))
        job = wait_ended(stubs.jobs, seen.id)
        assert state_name(job) == "CANCELLED"
        assert job.error.reason == ("CANCELLED" if detached else "CLIENT_GONE")
        check_undone(job, fd)


def test_run_when_its_deadline_passes_then_the_job_is_undone(daemon: Daemon, stubs: Stubs) -> None:
    with memory(SIZE) as fd, handed_over(daemon.handoff, fd) as (handle,):
        request_id = fresh()
        call = stubs.jobs.Run.future(pb.RunRequest(spec=undo_log(handle, request_id=request_id)), timeout=0.5)
        wait_progress(stubs, request_id)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        job = wait_ended(stubs.jobs, find_by_request(stubs.jobs, request_id).id)
        assert (state_name(job), job.error.reason) == ("CANCELLED", "DEADLINE")
        check_undone(job, fd)


CLIENT = """
import os, sys
import ktask
with ktask.connect(sys.argv[1]) as client, open(int(sys.argv[2]), "r+b", buffering=0) as data:
    spec = dict(arg={"delay_ms": 2}, ranges=[(0, int(sys.argv[3]))], data=data)
    getattr(client, sys.argv[4])("selftest.undo_log", **spec)
    print("submitted", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["run", "submit"])
def test_client_when_killed_then_only_a_waited_job_is_undone(daemon: Daemon, stubs: Stubs, how: str) -> None:
    with memory(SIZE) as fd:
        words = [sys.executable, "-c", CLIENT, str(daemon.place), str(fd), str(SIZE), how]
        with subprocess.Popen(words, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            try:
                job = wait_job_of(stubs, client.pid)
                wait_moved(stubs, job)
                if how == "submit":
                    assert client.stdout is not None
                    assert client.stdout.readline() == b"submitted\n"
            finally:
                client.send_signal(signal.SIGKILL)
        if how == "submit":
            wait_moved(stubs, stubs.jobs.Get(pb.GetRequest(id=job.id)).job)
            stubs.jobs.Cancel(pb.CancelRequest(id=job.id))
        job = wait_ended(stubs.jobs, job.id)
        assert state_name(job) == "CANCELLED"
        assert job.error.reason == ("CLIENT_GONE" if how == "run" else "CANCELLED")
        check_undone(job, fd)


def wait_job_of(stubs: Stubs, pid: int) -> pb.Job:
    """The job that a process submitted."""
    found: list[pb.Job] = []

    def look() -> bool:
        found.extend(job for job in stubs.jobs.List(pb.ListRequest()).jobs if job.owner.pid == pid)
        return bool(found)

    until(look, f"process {pid} has a job")
    return found[0]


def wait_moved(stubs: Stubs, job: pb.Job) -> None:
    call = stubs.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S)
    for message in call:
        if message.job.progress.positions_done > job.progress.positions_done + 8:
            call.cancel()
            return
    raise AssertionError("it did not move")


def test_request_id_when_used_again_then_the_first_job_or_refused(stubs: Stubs) -> None:
    request_id = fresh()
    wanted = spec("selftest.noop", ranges=[{"length": "5"}], request_id=request_id)
    first = stubs.jobs.Run(pb.RunRequest(spec=wanted)).job
    assert stubs.jobs.Run(pb.RunRequest(spec=wanted)).job == first
    assert stubs.jobs.Submit(pb.SubmitRequest(spec=wanted)).job == first
    other = spec("selftest.noop", ranges=[{"length": "6"}], request_id=request_id)
    for call, request in ((stubs.jobs.Run, pb.RunRequest), (stubs.jobs.Submit, pb.SubmitRequest)):
        refusal = refused(call, request(spec=other))
        assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert (refusal.field, refusal.domain) == ("spec.request_id", "ktask")


def test_request_id_when_two_wait_then_one_may_leave(stubs: Stubs) -> None:
    wanted = spin(1000, 1, request_id=fresh())
    first = stubs.jobs.Run.future(pb.RunRequest(spec=wanted))
    find_by_request(stubs.jobs, wanted.request_id)
    second = stubs.jobs.Run.future(pb.RunRequest(spec=wanted))
    job = wait_state(stubs.jobs, find_by_request(stubs.jobs, wanted.request_id).id, "RUNNING")
    # The second call has arrived when a later call on the same connection has its answer.
    stubs.jobs.Get(pb.GetRequest(id=job.id))
    first.cancel()
    assert state_name(second.result().job) == "SUCCEEDED"


def test_run_when_the_job_fails_then_ok_and_the_job_says_so(stubs: Stubs) -> None:
    failing = spec("selftest.fail", arg={"at": 3}, ranges=[{"length": "5"}])
    job = stubs.jobs.Run(pb.RunRequest(spec=failing)).job
    assert (state_name(job), job.error.reason, job.error.errno) == ("FAILED", "FUNCTION_ERROR", 5)


# -- Watch ------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for i in range(200):
        path = tmp_path / f"{i}"
        path.write_bytes(b"%d" % i * 1000)
        found.append(path)
    return found


def crc_items(files: list[Path], **fields: Any) -> pb.JobSpec:
    return spec("file.crc32", items=[{"path": str(path)} for path in files], min_chunk="1", **fields)


def test_watch_when_there_are_items_then_each_once_in_order_and_final_last(
    stubs: Stubs, files: list[Path]
) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=crc_items(files))).job
    messages = list(stubs.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S))
    assert [message.final for message in messages] == [False] * (len(messages) - 1) + [True]
    sequences = [message.sequence for message in messages]
    assert sequences == sorted(sequences)
    results = [result for message in messages for result in message.results]
    assert [result.index for result in results] == list(range(len(files)))
    wanted = [zlib.crc32(path.read_bytes()) for path in files]
    assert [result.result["crc32"] for result in results] == wanted
    last = messages[-1].job
    items = json_format.MessageToDict(last.result)["items"]
    assert [item["crc32"] for item in items] == wanted
    assert last == stubs.jobs.Get(pb.GetRequest(id=job.id)).job


def test_watch_when_resumed_anywhere_then_no_result_is_missed_or_told_twice(
    stubs: Stubs, files: list[Path]
) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=crc_items(files))).job
    after, told, final = 0, [], False
    while not final:
        call = stubs.jobs.Watch(pb.WatchRequest(id=job.id, after_sequence=after), timeout=PATIENCE_S)
        first = True
        for message in call:
            assert message.job.id == job.id
            after, final = message.sequence, message.final
            told += [result.index for result in message.results]
            if not first:
                break  # a snapshot and one more, then it is cut
            first = False
        call.cancel()
    assert told == list(range(len(files)))


def test_watch_when_the_job_has_ended_then_one_final_snapshot(stubs: Stubs) -> None:
    noop = spec("selftest.noop", ranges=[{"length": "5"}])
    job = stubs.jobs.Run(pb.RunRequest(spec=noop)).job
    (message,) = stubs.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S)
    assert (message.final, message.job) == (True, job)


def test_watch_when_cut_and_not_asked_to_cancel_then_the_job_goes_on(stubs: Stubs) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(300, 1))).job
    call = stubs.jobs.Watch(pb.WatchRequest(id=job.id))
    next(iter(call))
    call.cancel()
    assert state_name(wait_ended(stubs.jobs, job.id)) == "SUCCEEDED"


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_watch_when_cut_and_asked_to_cancel_then_the_job_is_cancelled(
    daemon: Daemon, stubs: Stubs, how: str
) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(1_000_000, 1))).job
    with connected(daemon.socket) as other:
        call = other.jobs.Watch(pb.WatchRequest(id=job.id, cancel_on_cut=True))
        assert not next(iter(call)).job.detached
        if how == "cancel":
            call.cancel()
    job = wait_ended(stubs.jobs, job.id)
    assert (state_name(job), job.error.reason) == ("CANCELLED", "CLIENT_GONE")


def test_watch_when_cut_while_nobody_reads_then_the_job_is_cancelled(
    stubs: Stubs, files: list[Path], tmp_path: Path
) -> None:
    """The stream is full: the daemon waits for the reader, and not for the job."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=crc_items([*files * 20, huge], max_threads=1))).job
    call = stubs.jobs.Watch(pb.WatchRequest(id=job.id, cancel_on_cut=True))
    for message in stubs.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S):
        # The last of them may be in one chunk with the huge file.
        if message.job.progress.positions_done >= len(files) * 16:
            break
    assert state_name(message.job) == "RUNNING"
    call.cancel()
    job = wait_ended(stubs.jobs, job.id)
    assert (state_name(job), job.error.reason) == ("CANCELLED", "CLIENT_GONE")


def test_watch_when_its_deadline_passes_and_asked_to_cancel_then_the_reason_is_the_deadline(
    stubs: Stubs,
) -> None:
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(1_000_000, 1))).job
    call = stubs.jobs.Watch(pb.WatchRequest(id=job.id, cancel_on_cut=True), timeout=0.3)
    with pytest.raises(grpc.RpcError):
        list(call)
    job = wait_ended(stubs.jobs, job.id)
    assert (state_name(job), job.error.reason) == ("CANCELLED", "DEADLINE")
