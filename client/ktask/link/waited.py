"""A job that a thread waits for: progress, deadline, interruption."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Protocol

from ktask.errors import KtaskError
from ktask.link import rpc
from ktask.link.caller import Caller, Pending, get
from ktask.link.interrupt import Deferred, can_defer
from ktask.link.rpc import grpc
from ktask.link.stubs import Stubs
from ktask.link.tracing import current_metadata
from ktask.v1 import jobs_pb2 as pb

DEADLINE_GRACE_S = 30.0
"""How long the undo of a job may take after its deadline."""

_LATE_FIRST_S, _LATE_MOST_S = 0.005, 0.5
"""Pauses between requests for a job that the daemon may not have accepted yet."""

OnJob = Callable[[pb.Job], None]


class Connection(Protocol):
    """The part of a session that a waited job needs."""

    caller: Caller

    @property
    def stubs(self) -> Stubs:
        """The channel and its stubs."""

    def stream(self, request: pb.WatchRequest, timeout: float | None) -> Iterator[pb.WatchResponse]:
        """One Watch call. Raises grpc.RpcError."""

    def wait(self, *, id: str = "", request_id: str = "", timeout: float | None = None) -> pb.Job | None:
        """The job once it has ended; None if that takes longer than `timeout` seconds."""

    def cancel(self, *, id: str = "", request_id: str = "") -> pb.Job:
        """Ask a job to stop."""

    def reopen(self) -> None:
        """Abort all calls, and go on with a new connection."""


class WaitedJob:
    """One call of Run from a thread that may be interrupted."""

    def __init__(self, session: Connection, spec: pb.JobSpec, timeout: float | None) -> None:
        """Prepare the call; `spec` must have a request_id."""
        self._session = session
        self._request = pb.RunRequest(spec=spec)
        self._timeout = timeout
        # Here and not in `_run`, which another thread may run, without the present span.
        self._metadata = current_metadata()

    def wait(self, on_job: OnJob | None) -> pb.Job:
        """The ended job; raises as `Session.run`."""
        try:
            if on_job is not None:
                return self._wait(on_job)
            if threading.current_thread() is not threading.main_thread():
                return self._run()
            return self._run_deferring() if can_defer() else self._wait(None)
        except grpc.RpcError as error:
            if self._timeout is not None and rpc.code_of(error) == "DEADLINE_EXCEEDED":
                return self._end_after_deadline()
            raise rpc.translate(error) from None

    def _run(self) -> pb.Job:
        return self._session.stubs.jobs.Run(self._request, timeout=self._timeout, metadata=self._metadata).job

    def _run_deferring(self) -> pb.Job:
        """The fast path: one call in this thread; Ctrl-C makes it return."""
        over = threading.Event()
        job: pb.Job | None = None
        error: Exception | None = None
        with Deferred(lambda count: self._come_back(count, over)) as deferred:
            try:
                job = self._run()
            except Exception as failed:
                error = failed
            over.set()
        if deferred.count:
            interrupt = KeyboardInterrupt()
            _note_end(interrupt, job, error)
            raise interrupt
        if job is None:
            raise error or AssertionError("neither a job nor an error")
        return job

    def _come_back(self, count: int, over: threading.Event) -> None:
        """Make the call return: the first Ctrl-C by cancelling the job, the second one at once."""
        if over.is_set():
            return
        if count > 1:
            self._session.reopen()
            return
        with contextlib.suppress(KtaskError):
            self._cancel_accepted(over.wait)

    def _wait(self, on_job: OnJob | None) -> pb.Job:
        """Wait where this thread may be interrupted safely."""
        pending = Pending(self._run)
        try:
            self._session.caller.start(pending)
            if on_job is not None:
                self._report(pending, on_job)
            return pending.result()
        except BaseException as interrupt:
            if not pending.withdraw() and not pending.done():
                self._cancel(pending, interrupt)
            raise

    def _report(self, pending: Pending[pb.Job], on_job: OnJob) -> None:
        """Call `on_job` with each newer job until it has ended."""
        news: SimpleQueue[pb.Job | None] = SimpleQueue()
        over = threading.Event()
        self._session.caller.start(Pending(lambda: self._follow(pending, news, over)))
        last = None
        try:
            while (job := _newest(news, pending.done)) is not None:
                last = job
                on_job(job)
        finally:
            over.set()
        job = pending.result()
        if last is None or last.sequence != job.sequence:
            on_job(job)

    def _follow(
        self, pending: Pending[pb.Job], news: SimpleQueue[pb.Job | None], over: threading.Event
    ) -> None:
        """Put the job into `news` whenever it has moved, and None at the end."""
        request = pb.WatchRequest(request_id=self._request.spec.request_id)
        bound = None if self._timeout is None else self._timeout + DEADLINE_GRACE_S
        pause_s = _LATE_FIRST_S
        try:
            while not over.is_set() and not pending.done():
                # The job may not be accepted yet, or the daemon cuts the stream of a slow reader.
                with contextlib.suppress(grpc.RpcError):
                    for message in self._session.stream(request, bound):
                        news.put(message.job)
                        if message.final or over.is_set():
                            return
                pending.wait(pause_s)
                pause_s = min(pause_s * 2, _LATE_MOST_S)
        finally:
            news.put(None)

    def _end_after_deadline(self) -> pb.Job:
        """The ended job, which the daemon cancelled at its deadline."""
        request_id, job = self._request.spec.request_id, None
        with contextlib.suppress(KtaskError):
            job = self._session.wait(request_id=request_id, timeout=DEADLINE_GRACE_S)
        if job is None:
            raise KtaskError(
                f"job: has not ended {DEADLINE_GRACE_S:g} s after its deadline of {self._timeout:g} s",
                code="DEADLINE_EXCEEDED",
                reason="DEADLINE",
                metadata={"request_id": request_id},
            )
        return job

    def _cancel(self, pending: Pending[pb.Job], interrupt: BaseException) -> None:
        """Cancel an interrupted job and wait for its undo. A second interrupt ends the wait."""
        try:
            self._cancel_accepted(pending.wait)
        except KtaskError as error:
            interrupt.add_note(f"the job was interrupted and could not be cancelled: {error}")
            return
        try:
            _note_end(interrupt, pending.result(), None)
        except grpc.RpcError as error:
            _note_end(interrupt, None, error)

    def _cancel_accepted(self, wait_over: Callable[[float], bool]) -> None:
        """Cancel the job, once it has been accepted.

        Args:
            wait_over: waits this many seconds for the call of Run; whether it has returned.
        Raises:
            KtaskError: it cannot be cancelled.
        """
        while True:
            try:
                self._session.cancel(request_id=self._request.spec.request_id)
                return
            except KtaskError as error:
                if error.code != "NOT_FOUND":
                    raise
            # The call of Run is under way, or was refused.
            if wait_over(_LATE_FIRST_S):
                return


def _note_end(interrupt: BaseException, job: pb.Job | None, error: Exception | None) -> None:
    """Note on an interrupt how its job has ended."""
    if job is not None:
        interrupt.add_note(f"job {job.id} ended {pb.JobState.Name(job.state).removeprefix('JOB_STATE_')}")
    elif error is not None:
        why = rpc.translate(error) if isinstance(error, grpc.RpcError) else error
        interrupt.add_note(f"the job was interrupted, and its end is not known: {why}")


def _newest(news: SimpleQueue[pb.Job | None], over: Callable[[], bool]) -> pb.Job | None:
    """Wait for news and return the newest, without the older ones; None at the end."""
    job = get(news, over)
    with contextlib.suppress(Empty):
        while job is not None:
            later = news.get_nowait()
            if later is None:
                news.put(None)
                break
            job = later
    return job
