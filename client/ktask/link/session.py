"""One connection to a daemon, in messages of the contract.

`client` speaks dataclasses above it, and `cli` prints the messages as they are.
"""

from __future__ import annotations

import atexit
import os
import secrets
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
from ktask.link.locate import Place, grpc_target
from ktask.link.resolve import opened
from ktask.link.rpc import grpc
from ktask.link.trust import Anchor
from ktask.link.waited import OnJob, WaitedJob
from ktask.v1 import control_pb2, control_pb2_grpc, jobs_pb2_grpc
from ktask.v1 import jobs_pb2 as pb

_CALL_TIMEOUT_S = 30.0
"""For calls that the daemon answers at once."""

_RESUMES_MAX = 6
_RESUME_FIRST_S, _RESUME_MOST_S = 0.02, 1.0

ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED, pb.JOB_STATE_DIRTY})

_RESUMABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNKNOWN", "INTERNAL"})
"""How a stream is cut that can be taken up again."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Wire:
    """A channel and its stubs, gone together when the session is closed."""

    def __init__(self, target: str) -> None:
        self.channel = rpc.open_channel(target)
        self.jobs = jobs_pb2_grpc.JobsStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)


class Session:
    """A connection. Thread-safe; not to be used in a forked child."""

    def __init__(self, place: Place) -> None:
        """Prepare a connection to `place`; nothing is dialled yet.

        Raises:
            DaemonNotTrusted: another user could listen there.
            OSError: there is no such directory.
        """
        self.place = place
        self._anchor = Anchor(os.path.dirname(place.socket))
        self._left: list[tuple[Wire, Anchor]] = []
        self._wire: Wire | None = self._make_wire()
        self.handover = Handover(place.handoff)
        self.caller = Caller()
        self._functions: dict[str, pb.Function] = {}
        self._closing = threading.Lock()
        self._forked = False
        _sessions.add(self)

    def close(self) -> None:
        """End the connection: waiting calls fail, and their jobs are cancelled."""
        with self._closing:
            if self._wire is None or self._forked:
                return
            wire, self._wire = self._wire, None
        self.caller.call(wire.channel.close)
        self.caller.close()
        self.handover.close()
        self._anchor.close()
        for left, anchor in self._left:
            left.channel.close()
            anchor.close()

    def _make_wire(self) -> Wire:
        """A channel that reaches nothing but the directory that was checked, however often it connects."""
        return Wire(grpc_target(self._anchor.path(os.path.basename(self.place.socket))))

    def reopen(self) -> None:
        """Break all calls off, and go on with a new connection."""
        with self._closing:
            if self._wire is None:
                return
            wire, self._wire = self._wire, self._make_wire()
        wire.channel.close()

    def _follow(self) -> None:
        """Go to the directory that has the name now; calls that run stay where they are.

        A daemon that was started again may have another directory, which must be as
        trusted as the first.
        """
        with self._closing:
            if self._wire is None or not self._anchor.is_replaced():
                return
            anchor = Anchor(self._anchor.directory)
            self._left.append((self._wire, self._anchor))
            self._anchor = anchor
            self._wire = self._make_wire()
        self.handover.close()  # the other daemon does not know its handles

    def run(self, draft: Draft, timeout: float | None = None, on_job: OnJob | None = None) -> pb.Job:
        """Run a job to its end, however it ends.

        Interrupted by an exception in this thread, such as KeyboardInterrupt or
        one of `on_job`, it cancels the job, waits for its end and raises that.

        Args:
            timeout: seconds until the job is cancelled; None = never.
            on_job: called in this thread with the job as it goes on.
        Raises:
            KtaskError: refused, not reached, or past its deadline and not seen
                to end.
        """

        def call(spec: pb.JobSpec) -> pb.Job:
            # The waited call does not say which job it became, so the job is found by this.
            spec.request_id = spec.request_id or secrets.token_hex(16)
            return WaitedJob(self, spec, timeout).wait(on_job)

        return self._with_sources(draft, call)

    def submit(self, draft: Draft, timeout: float | None = None) -> pb.Job:
        """Submit a detached job; it goes on without this connection."""
        bound = _CALL_TIMEOUT_S if timeout is None else timeout

        def call(spec: pb.JobSpec) -> pb.Job:
            return self._call(self.wire.jobs.Submit, pb.SubmitRequest(spec=spec), bound).job

        return self._with_sources(draft, call)

    def _with_sources(self, draft: Draft, call: Callable[[pb.JobSpec], pb.Job]) -> pb.Job:
        """`call` with the message of a draft, while its sources are handed over."""
        _ = self.wire
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
                # The daemon was started again, or the handoff connection broke, after
                # the handles were taken; the job was not accepted, so this is safe.
                job = call(sources.spec())
            sources.keep(job)
            return job

    def stream(self, request: pb.WatchRequest, timeout: float | None) -> Iterator[pb.WatchResponse]:
        """One Watch call, ended when the reader leaves. Raises grpc.RpcError."""
        call = self.caller.call(lambda: self.wire.jobs.Watch(request, timeout=timeout))
        try:
            while (message := self.caller.call(lambda: next(call, None))) is not None:
                yield message
        finally:
            self.caller.call(call.cancel)

    def wait(self, *, id: str = "", request_id: str = "", timeout: float | None = None) -> pb.Job | None:
        """The job once it has ended; None if that is not within `timeout` seconds."""
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
            KtaskError: no such job, or it was cut and could not be resumed.
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
                    # A stream that only ever repeats where the job is does not count.
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
        return self._call(self.wire.jobs.Get, pb.GetRequest(id=id, request_id=request_id)).job

    def cancel(self, *, id: str = "", request_id: str = "") -> pb.Job:
        """Ask a job to stop; it may still be undoing when this returns."""
        return self._call(self.wire.jobs.Cancel, pb.CancelRequest(id=id, request_id=request_id)).job

    def list(self, request: pb.ListRequest) -> pb.ListResponse:
        """One page of jobs."""
        return self._call(self.wire.jobs.List, request)

    def pages(self, request: pb.ListRequest) -> Iterator[pb.ListResponse]:
        """All pages of jobs from the one that `request` asks for."""
        while True:
            page = self.list(request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def functions(self, name: str = "", timeout: float = _CALL_TIMEOUT_S) -> pb.ListFunctionsResponse:
        """The functions, or the one of this name, asked for anew."""
        request = pb.ListFunctionsRequest(name=name)
        # A daemon that systemd starts at the first connection needs its time.
        response = self._call(self.wire.jobs.ListFunctions, request, timeout, wait_for_ready=True)
        self._functions.update((one.name, one) for one in response.functions)
        return response

    def function(self, name: str) -> pb.Function:
        """A function's declaration, asked for once; raises KtaskError if there is none."""
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
        return self._call(self.wire.control.GetStatus, control_pb2.GetStatusRequest())

    def set_mode(self, request: control_pb2.SetModeRequest) -> control_pb2.SetModeResponse:
        """Set who decides how many helpers run."""
        return self._call(self.wire.control.SetMode, request)

    def drain(self, resume: bool) -> control_pb2.DrainResponse:
        """Stop or resume the acceptance of jobs."""
        return self._call(self.wire.control.Drain, control_pb2.DrainRequest(resume=resume))

    def reload(self) -> control_pb2.ReloadResponse:
        """Have the configuration read again."""
        return self._call(self.wire.control.Reload, control_pb2.ReloadRequest())

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float = _CALL_TIMEOUT_S,
        wait_for_ready: bool | None = None,
    ) -> Response:
        try:
            return self.caller.call(lambda: method(request, timeout=timeout, wait_for_ready=wait_for_ready))
        except grpc.RpcError as error:
            raise rpc.translate(error) from None

    @property
    def wire(self) -> Wire:
        """The channel and its stubs; raises KtaskError where there is none any more, or not a trusted one."""
        if self._forked:
            raise KtaskError(
                "client: made before this process was forked, wanted one made after it",
                code="FAILED_PRECONDITION",
                reason="CLIENT_FORKED",
            )
        if self._anchor.is_replaced():
            self._follow()
        wire = self._wire
        if wire is None:
            raise KtaskError("client: closed", code="FAILED_PRECONDITION", reason="CLIENT_CLOSED")
        return wire

    def _after_fork(self) -> None:
        """In the child: gRPC's threads are gone, so the channel must not be touched."""
        self._forked = True
        self.handover.abandon()
        # Closing it, as its collection would, may wait for those threads for ever.
        _never_collected.append(self._wire)


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_never_collected: list[object] = []


def _mark_forked() -> None:
    for session in list(_sessions):
        session._after_fork()


def _close_all() -> None:
    """Close what the program did not, while gRPC's threads still run.

    The end of the interpreter stops them, and a channel with a call that was
    not ended would then wait for them for ever.
    """
    for session in list(_sessions):
        # No thread can be started any more, so it is closed by this one.
        session.caller.close()
        session.close()


os.register_at_fork(after_in_child=_mark_forked)
atexit.register(_close_all)
