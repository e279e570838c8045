"""A daemon that the test controls: real sockets, canned jobs.

Functions that it runs:
    file.crc32, mem.fill, file.copy   really done, at once and in one piece
    fake.block      runs until it is cancelled, then undoes until `undo` is set
    fake.fail       ends FAILED, with every field of its error set
    fake.steps      reports 1 to 5 of 5 positions, one for each `step` given
    fake.items      has results for its items, one for each `step`
    fake.warn       succeeds with warnings
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
from ktask.v1 import control_pb2, control_pb2_grpc, jobs_pb2_grpc
from ktask.v1 import jobs_pb2 as pb

from tests.client.fake_handoff import WAIT_S, FakeHandoff
from tests.client.fake_messages import FUNCTIONS, a_status, refusal

ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_DIRTY)


@dataclass
class FakeJob:
    """A job, and the results that a watch of it sends."""

    message: pb.Job
    results: list[pb.ItemResult] = field(default_factory=list)
    cancelled: bool = False


class FakeDaemon(jobs_pb2_grpc.JobsServicer, control_pb2_grpc.ControlServicer):
    """A daemon in this process, at DIR/ktaskd.sock and DIR/handoff.sock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = threading.Condition()
        self.jobs: dict[str, FakeJob] = {}
        self.specs: list[pb.JobSpec] = []
        self.calls: list[str] = []
        self.watches: list[pb.WatchRequest] = []
        self.story = pb.Story()
        self.modes: list[control_pb2.SetModeRequest] = []
        self.cut_watches_after = 0
        """A watch is cut after this many messages; 0 = never."""
        self.refusal: grpc.Status | None = None
        """The answer of Run and Submit; None = do the job."""
        self.undo = threading.Event()
        self.step = threading.Semaphore(0)
        self.handoff = FakeHandoff(directory / "handoff.sock")
        self._server: grpc.Server | None
        self._pool = ThreadPoolExecutor(max_workers=16)
        server = self._server = grpc.server(self._pool)
        jobs_pb2_grpc.add_JobsServicer_to_server(self, server)
        control_pb2_grpc.add_ControlServicer_to_server(self, server)
        server.add_insecure_port(f"unix:{directory}/ktaskd.sock")
        server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def kill(self) -> None:
        """Abort all calls at once."""
        if self._server is not None:
            self._server.stop(0).wait(WAIT_S)

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        self.undo.set()
        self.step.release(1000)
        with self.lock:
            for job in self.jobs.values():
                job.cancelled = True
            self.lock.notify_all()
        server.stop(0.5).wait(WAIT_S)
        self._pool.shutdown()
        self.handoff.stop()

    # For tests.

    def wait_for(self, condition: Any) -> None:
        """Wait until `condition(self)` is true."""
        with self.lock:
            assert self.lock.wait_for(lambda: condition(self), WAIT_S), "the fake daemon never saw it"

    def only_job(self) -> FakeJob:
        (job,) = self.jobs.values()
        return job

    # Jobs.

    def Run(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:
        job = self._accept(request.spec, context)
        context.add_callback(lambda: self._cancel(job))
        self._process(job)
        return pb.RunResponse(job=job.message)

    def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        job = self._accept(request.spec, context)
        job.message.detached = True
        self._pool.submit(self._process, job)
        return pb.SubmitResponse(job=job.message)

    def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        return pb.GetResponse(job=self._find(request, context).message)

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        return pb.ExplainResponse(job=self._find(request, context).message, story=self.story)

    def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:
        self._note("Cancel")
        job = self._find(request, context)
        self._cancel(job)
        return pb.CancelResponse(job=job.message)

    def Watch(self, request: pb.WatchRequest, context: Any) -> Iterator[pb.WatchResponse]:
        self._note("Watch")
        self.watches.append(request)
        job = self._find(request, context)
        sent, seen = 0, -1
        # The sequence of a job counts its results here, and one more for each change.
        first = request.after_sequence
        while True:
            with self.lock:
                _wait_change(self.lock, job, seen)
                message = pb.WatchResponse(sequence=job.message.sequence, job=job.message)
                message.results.extend(one for one in job.results if one.index >= first)
                message.final = job.message.state in ENDED
            seen, first = message.sequence, max(first, len(job.results))
            yield message
            if message.final:
                return
            sent += 1
            if sent == self.cut_watches_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        self._note("List")
        start = int(request.page_token or 0)
        size = request.page_size or 2
        found = [job.message for job in reversed(self.jobs.values())]
        found = [job for job in found if not request.states or job.state in request.states]
        found = [job for job in found if request.function in ("", job.spec.function)]
        token = str(start + size) if start + size < len(found) else ""
        return pb.ListResponse(jobs=found[start : start + size], next_page_token=token)

    def ListFunctions(self, request: pb.ListFunctionsRequest, context: Any) -> pb.ListFunctionsResponse:
        self._note("ListFunctions")
        found = [one for one in FUNCTIONS if request.name in ("", one.name)]
        if not found:
            context.abort_with_status(
                refusal("NOT_FOUND", "FUNCTION_UNKNOWN", f'function "{request.name}": unknown')
            )
        return pb.ListFunctionsResponse(functions=found)

    # Control.

    def GetStatus(self, request: Any, context: Any) -> control_pb2.GetStatusResponse:
        return control_pb2.GetStatusResponse(status=a_status(self.directory))

    def Drain(self, request: control_pb2.DrainRequest, context: Any) -> control_pb2.DrainResponse:
        return control_pb2.DrainResponse(draining=not request.resume, jobs_left=3)

    def Reload(self, request: Any, context: Any) -> control_pb2.ReloadResponse:
        return control_pb2.ReloadResponse(applied=["a.b"], needs_restart=["c.d"])

    def WatchStatus(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    def SetMode(self, request: control_pb2.SetModeRequest, context: Any) -> control_pb2.SetModeResponse:
        self.modes.append(request)
        status = a_status(self.directory)
        status.mode = request.mode
        if request.HasField("duration"):
            status.mode_until.FromSeconds(1_800_000_000 + request.duration.seconds)
        return control_pb2.SetModeResponse(status=status)

    # Internals.

    def _note(self, call: str) -> None:
        with self.lock:
            self.calls.append(call)
            self.lock.notify_all()

    def _accept(self, spec: pb.JobSpec, context: Any) -> FakeJob:
        self._note("Run")
        self.specs.append(spec)
        if self.refusal is not None:
            context.abort_with_status(self.refusal)
        for source in [*spec.sources.values(), *spec.items]:
            if self.handoff.fd_of(source.handle) is None:
                context.abort_with_status(refusal("NOT_FOUND", "HANDLE_UNKNOWN", "handle: unknown"))
        with self.lock:
            message = pb.Job(id=f"job{len(self.jobs)}", spec=spec, state=pb.JOB_STATE_RUNNING, sequence=1)
            message.create_time.FromSeconds(1_700_000_000)
            message.owner.uid = os.getuid()
            job = FakeJob(message)
            if spec.function == "fake.items":
                message.sequence = 0
            self.jobs[message.id] = job
            self.lock.notify_all()
        return job

    def _find(self, request: Any, context: Any) -> FakeJob:
        with self.lock:
            for job in self.jobs.values():
                if request.id == job.message.id or (
                    request.request_id and request.request_id == job.message.spec.request_id
                ):
                    return job
        context.abort_with_status(refusal("NOT_FOUND", "JOB_UNKNOWN", "job: unknown"))
        raise AssertionError

    def _cancel(self, job: FakeJob) -> None:
        with self.lock:
            job.cancelled = True
            if job.message.state == pb.JOB_STATE_RUNNING:
                job.message.state = pb.JOB_STATE_UNDOING
                job.message.sequence += 1
            self.lock.notify_all()

    def _process(self, job: FakeJob) -> None:
        {
            "fake.block": self._block,
            "fake.fail": self._fail,
            "fake.steps": self._steps,
            "fake.items": self._steps,
            "fake.warn": self._warn,
        }.get(job.message.spec.function, self._work)(job)

    def _end(self, job: FakeJob, state: pb.JobState.ValueType, **error: Any) -> None:
        with self.lock:
            job.message.state = state
            job.message.sequence += 1
            if error:
                job.message.error.CopyFrom(pb.JobError(**error))
            self.lock.notify_all()

    def _block(self, job: FakeJob) -> None:
        with self.lock:
            self.lock.wait_for(lambda: job.cancelled, WAIT_S)
        self.undo.wait(WAIT_S)
        self._end(job, pb.JOB_STATE_CANCELLED, reason="CANCELLED", message="told to", undone=[pb.Span(end=5)])

    def _fail(self, job: FakeJob) -> None:
        self._end(
            job,
            pb.JOB_STATE_DIRTY,
            reason="FUNCTION_ERROR",
            message="it went wrong",
            chunk=pb.ErrorChunk(start=10, end=20, nid=0),
            errno=28,
            undone=[pb.Span(start=0, end=10)],
            dirty=[pb.Span(start=10, end=15)],
        )

    def _warn(self, job: FakeJob) -> None:
        job.message.warnings.add(code="SOURCE_CHANGED", message='source "data": it moved', source="data")
        job.message.warnings.add(code="SOURCE_CHANGED", message="item 0: it\nmoved", item=0)
        job.message.warnings_omitted = 7
        self._end(job, pb.JOB_STATE_SUCCEEDED)

    def _steps(self, job: FakeJob) -> None:
        for i in range(5):
            self.step.acquire(timeout=WAIT_S)
            with self.lock:
                job.message.progress.positions_done = i + 1
                job.message.progress.positions_total = 5
                job.message.sequence += 1
                if job.message.spec.function == "fake.items":
                    job.results.append(pb.ItemResult(index=i))
                    job.results[-1].result.update({"n": i})
                    job.message.sequence = len(job.results)
                self.lock.notify_all()
        self._end(job, pb.JOB_STATE_SUCCEEDED)

    def _work(self, job: FakeJob) -> None:
        spec = job.message.spec
        fds = {role: self.handoff.fd_of(source.handle) for role, source in spec.sources.items()}
        job.message.result.SetInParent()
        if spec.function == "file.crc32" and fds:
            job.message.result.update({"crc32": zlib.crc32(_read(fds["data"]))})
        elif spec.function == "file.crc32":
            found = [{"crc32": zlib.crc32(_read(self.handoff.fd_of(item.handle)))} for item in spec.items]
            job.message.result.update({"items": found})
        elif spec.function == "file.copy":
            os.pwrite(fds["dst"] or 0, _read(fds["src"]), 0)
        else:
            data = bytes([int(spec.arg.fields["value"].number_value)]) * os.fstat(fds["data"] or 0).st_size
            os.pwrite(fds["data"] or 0, data, 0)
        self._end(job, pb.JOB_STATE_SUCCEEDED)


def _wait_change(lock: threading.Condition, job: FakeJob, seen: int) -> None:
    lock.wait_for(lambda: job.message.sequence != seen, WAIT_S)


def _read(fd: int | None) -> bytes:
    assert fd is not None
    return os.pread(fd, os.fstat(fd).st_size, 0)
