"""One connection to a daemon, in messages of the contract.

`client` turns the messages into dataclasses; `cli` prints them as they are.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from ktask.core import Draft
from ktask.errors import KtaskError
from ktask.link import naming, rpc
from ktask.link.caller import Caller
from ktask.link.handover import Handover
from ktask.link.locate import Endpoint, grpc_target
from ktask.link.resolve import opened
from ktask.link.rpc import grpc
from ktask.link.stubs import Stubs
from ktask.link.tracing import Metadata, current_metadata
from ktask.link.trust import Anchor
from ktask.link.waited import OnJob, WaitedJob
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

_CALL_TIMEOUT_S = 30.0
"""Timeout of calls that the daemon answers at once."""

_RESUMES_MAX = 6
_RESUME_FIRST_S, _RESUME_MOST_S = 0.02, 1.0

ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_DIRTY})

_RESUMABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNKNOWN", "INTERNAL"})
"""Statuses of a cut stream that can be resumed."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Session:
    """A connection. Thread-safe; unusable in a forked child."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare a connection to `endpoint`; the first call dials.

        Raises:
            DaemonNotTrusted: another user could listen there.
            OSError: there is no such directory.
        """
        self.endpoint = endpoint
        self._anchor = Anchor(os.path.dirname(endpoint.socket))
        self._left: list[tuple[Stubs, Anchor]] = []
        self._stubs: Stubs | None = self._make_stubs()
        self.handover = Handover(endpoint.handoff)
        self.caller = Caller()
        self._functions: dict[str, pb.Function] = {}
        self._closing = threading.Lock()
        self._forked = False
        _sessions.add(self)

    def close(self) -> None:
        """End the connection: pending calls fail, and their jobs are cancelled."""
        with self._closing:
            if self._stubs is None or self._forked:
                return
            stubs, self._stubs = self._stubs, None
        self.caller.call(stubs.channel.close)
        self.caller.close()
        self.handover.close()
        self._anchor.close()
        for left, anchor in self._left:
            left.channel.close()
            anchor.close()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed and takes no more calls."""
        return self._stubs is None

    def _make_stubs(self) -> Stubs:
        """A channel that only reaches the directory that was checked, however often it reconnects."""
        return Stubs(grpc_target(self._anchor.path(os.path.basename(self.endpoint.socket))))

    def reopen(self) -> None:
        """Abort all calls, and go on with a new connection."""
        with self._closing:
            if self._stubs is None:
                return
            stubs, self._stubs = self._stubs, self._make_stubs()
        stubs.channel.close()

    def _follow(self) -> None:
        """Connect to the directory that has the name now; running calls keep the old connection.

        A restarted daemon may have another directory. That is checked as the first one was.
        """
        with self._closing:
            if self._stubs is None or not self._anchor.is_replaced():
                return
            anchor = Anchor(self._anchor.directory)
            self._left.append((self._stubs, self._anchor))
            self._anchor = anchor
            self._stubs = self._make_stubs()
        self.handover.close()  # the new daemon does not know the old handles

    def run(self, draft: Draft, timeout: float | None = None, on_job: OnJob | None = None) -> pb.Job:
        """Run a job to its end, however it ends.

        If an exception interrupts this thread, such as KeyboardInterrupt or one raised by
        `on_job`, the job is cancelled and its end waited for before that exception goes on.

        Args:
            timeout: seconds until the job is cancelled; None = never.
            on_job: called in this thread with the job whenever it has moved.
        Raises:
            KtaskError: the job was refused, the daemon cannot be reached, or the job has
                not ended some time after its deadline.
        """

        def call(spec: pb.JobSpec) -> pb.Job:
            # Run answers only at the end, so until then the job is found by its request_id.
            spec.request_id = spec.request_id or os.urandom(16).hex()
            return WaitedJob(self, spec, timeout).wait(on_job)

        return self._with_sources(draft, call)

    def submit(self, draft: Draft, timeout: float | None = None) -> pb.Job:
        """Submit a detached job; it goes on without this connection."""
        bound = _CALL_TIMEOUT_S if timeout is None else timeout

        def call(spec: pb.JobSpec) -> pb.Job:
            request, metadata = pb.SubmitRequest(spec=spec), current_metadata()
            return self._call(self.stubs.jobs.Submit, request, bound, metadata=metadata).job

        return self._with_sources(draft, call)

    def _with_sources(self, draft: Draft, call: Callable[[pb.JobSpec], pb.Job]) -> pb.Job:
        """Make `call` with the message of a draft while its sources are handed over."""
        _ = self.stubs
        items = None if draft.items is None else list(draft.items)
        draft = replace(draft, items=items)
        names = naming.names_of(draft.sources, items)
        try:
            job = self._with_open_sources(draft, call)
        except KtaskError as error:
            error.message = naming.with_names(error.message, names)
            error.args = (error.message, *error.args[1:])
            raise
        naming.name_in_job(job, names, self._functions.get(draft.function))
        return job

    def _with_open_sources(self, draft: Draft, call: Callable[[pb.JobSpec], pb.Job]) -> pb.Job:
        with opened(draft, self.handover, self.function) as sources:
            try:
                job = call(sources.spec())
            except KtaskError as error:
                if error.reason != "HANDLE_UNKNOWN" or not self.handover.renewed_since(sources.generation):
                    raise
                # The daemon was restarted, or the handoff connection broke, after the
                # sources were handed over. The job was not accepted, so a retry is safe.
                job = call(sources.spec())
            sources.keep(job)
            return job

    def stream(self, request: pb.WatchRequest, timeout: float | None) -> Iterator[pb.WatchResponse]:
        """One Watch call, ended when the reader stops iterating. Raises grpc.RpcError."""
        call = self.caller.call(lambda: self.stubs.jobs.Watch(request, timeout=timeout))
        try:
            while (message := self.caller.call(lambda: next(call, None))) is not None:
                yield message
        finally:
            self.caller.call(call.cancel)

    def wait(self, *, id: str = "", request_id: str = "", timeout: float | None = None) -> pb.Job | None:
        """The job once it has ended; None if that takes longer than `timeout` seconds."""
        for message in self.watch(id=id, request_id=request_id, timeout=timeout):
            if message.final:
                return message.job
        return None

    def watch(
        self,
        *,
        id: str = "",
        request_id: str = "",
        after_sequence: int = 0,
        timeout: float | None = None,
        cancel_on_cut: bool = False,
    ) -> Iterator[pb.WatchResponse]:
        """Follow a job to its end, or for `timeout` seconds; a cut stream is resumed.

        Raises:
            KtaskError: no such job, or the stream was cut and could not be resumed.
        """
        request = pb.WatchRequest(
            id=id, request_id=request_id, after_sequence=after_sequence, cancel_on_cut=cancel_on_cut
        )
        deadline = None if timeout is None else time.monotonic() + timeout
        failures = 0
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                for message in self.stream(request, left):
                    # Only new content resets the count; a repeated snapshot does not.
                    failures = 0 if message.sequence > request.after_sequence else failures
                    request.after_sequence = message.sequence
                    yield message
                    if message.final:
                        return
            except grpc.RpcError as error:
                if left is not None and rpc.code_of(error) == "DEADLINE_EXCEEDED":
                    return
                failures += 1
                if rpc.code_of(error) not in _RESUMABLE or failures > _RESUMES_MAX:
                    raise rpc.translate(error) from None
            else:
                failures += 1
                if failures > _RESUMES_MAX:
                    raise KtaskError("watch: the daemon ends the stream before the job", code="INTERNAL")
            time.sleep(min(_RESUME_FIRST_S * 2**failures, _RESUME_MOST_S))

    def get(self, *, id: str = "", request_id: str = "") -> pb.Job:
        """One job as it is now."""
        return self._call(self.stubs.jobs.Get, pb.GetRequest(id=id, request_id=request_id)).job

    def explain(self, *, id: str = "", request_id: str = "") -> pb.ExplainResponse:
        """One job with its history."""
        return self._call(self.stubs.jobs.Explain, pb.ExplainRequest(id=id, request_id=request_id))

    def cancel(self, *, id: str = "", request_id: str = "") -> pb.Job:
        """Ask a job to stop; it may still be undoing when this returns."""
        return self._call(self.stubs.jobs.Cancel, pb.CancelRequest(id=id, request_id=request_id)).job

    def list(self, request: pb.ListRequest) -> pb.ListResponse:
        """One page of jobs."""
        return self._call(self.stubs.jobs.List, request)

    def pages(self, request: pb.ListRequest) -> Iterator[pb.ListResponse]:
        """All pages of jobs, from the one that `request` asks for on."""
        while True:
            page = self.list(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def functions(self, name: str = "", timeout: float = _CALL_TIMEOUT_S) -> pb.ListFunctionsResponse:
        """The functions, or the one of this name, requested from the daemon each time."""
        request = pb.ListFunctionsRequest(name=name)
        # Wait: systemd may be starting the daemon because of this very connection.
        response = self._call(self.stubs.jobs.ListFunctions, request, timeout, wait_for_ready=True)
        self._functions.update((one.name, one) for one in response.functions)
        return response

    def function(self, name: str) -> pb.Function:
        """A function's declaration, requested once; raises KtaskError if there is none."""
        if name not in self._functions:
            self.functions(name)
        found = self._functions.get(name)
        if found is None:
            raise KtaskError(
                f'function "{name}": unknown',
                code="NOT_FOUND",
                reason="FUNCTION_UNKNOWN",
                field="spec.function",
            )
        return found

    def status(self) -> control_pb2.GetStatusResponse:
        """The daemon as it is now."""
        return self._call(self.stubs.control.GetStatus, control_pb2.GetStatusRequest())

    def set_mode(self, request: control_pb2.SetModeRequest) -> control_pb2.SetModeResponse:
        """Set who decides how many helpers run."""
        return self._call(self.stubs.control.SetMode, request)

    def drain(self, resume: bool) -> control_pb2.DrainResponse:
        """Stop or resume the acceptance of jobs."""
        return self._call(self.stubs.control.Drain, control_pb2.DrainRequest(resume=resume))

    def reload(self) -> control_pb2.ReloadResponse:
        """Have the configuration read again."""
        return self._call(self.stubs.control.Reload, control_pb2.ReloadRequest())

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float = _CALL_TIMEOUT_S,
        wait_for_ready: bool | None = None,
        metadata: Metadata | None = None,
    ) -> Response:
        def call() -> Response:
            return method(request, timeout=timeout, wait_for_ready=wait_for_ready, metadata=metadata)

        try:
            return self.caller.call(call)
        except grpc.RpcError as error:
            raise rpc.translate(error) from None

    @property
    def stubs(self) -> Stubs:
        """The channel and its stubs.

        Raises:
            KtaskError: the session is closed, belongs to the parent of this process, or its directory
                was replaced by one that is not trusted.
        """
        if self._forked:
            raise KtaskError(
                "client: made before this process was forked; connect again in the child",
                code="FAILED_PRECONDITION",
                reason="CLIENT_FORKED",
            )
        if self._anchor.is_replaced():
            self._follow()
        stubs = self._stubs
        if stubs is None:
            raise KtaskError("client: closed", code="FAILED_PRECONDITION", reason="CLIENT_CLOSED")
        return stubs

    def _after_fork(self) -> None:
        """In the child: gRPC's threads are gone, so the channel must not be touched."""
        self._forked = True
        self.handover.abandon()
        # Closing the channel, as garbage collection would, may wait forever for those threads.
        _never_collected.append(self._stubs)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_never_collected: list[object] = []


def _mark_forked() -> None:
    for session in list(_sessions):
        session._after_fork()


def _close_all() -> None:
    """Close the sessions that the program left open, while gRPC's threads still run.

    The interpreter stops them as it ends, and a channel with an open call would then
    wait for them forever.
    """
    for session in list(_sessions):
        # No thread can be started any more, so this one closes the session.
        session.caller.close()
        session.close()


os.register_at_fork(after_in_child=_mark_forked)
atexit.register(_close_all)
