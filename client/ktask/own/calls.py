"""The client's end of calls: hands them to the workers of a job that runs while there are any.

A job of python.calls begins with the first call, and ends when no call has come for a while,
because its workers are processes. A job whose workers are all busy, or that is ended while some
are, goes on until they are done; new calls then go to the next job.
"""

from __future__ import annotations

import contextlib
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from functools import partial

from ktask.link.session import Session
from ktask.own import programend, sockets
from ktask.own.board import Board
from ktask.own.bursts import Burst, Peer
from ktask.own.futures import Call
from ktask.own.poller import Poller
from ktask.v1 import calls as wire
from ktask.v1.parcels import Parcel

LINGER_S = 60.0
"""How long workers are kept while no call comes. They sleep, and others have their CPUs."""

UNATTENDED_S = 1.0
"""A job that gets no more calls, and has no worker that would end it, is cancelled after this long."""

LOOK_S = 0.2
"""Between two checks for an interrupted program, while calls run or wait."""


class CallServer:
    """Hands calls to workers, and their results to the futures. Thread-safe.

    One thread handles what workers send; it exists while there are calls, and for LINGER_S
    after them. A call that finds a worker idle is sent by the thread that makes it.

    Args:
        open_session: connects to a daemon; called again when the connection was lost.
        max_workers: most calls at the same time.
        let_go: what is done with a session that is not needed any more.
        begin: submits a job, as `Burst` does.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        max_workers: int,
        let_go: Callable[[Session], None],
        begin: Callable[[Session, int, Callable[[], None]], Burst] = Burst,
    ) -> None:
        """Nothing happens before the first call."""
        self._open_session = open_session
        self._let_go = let_go
        self._begin = begin
        self._max_workers = max_workers
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._board = Board(max_workers)
        self._bursts: set[Burst] = set()
        self._open: Burst | None = None
        self._fresh = False
        self._idle_since_s: float | None = None
        self._thread: threading.Thread | None = None
        self._poller = Poller()
        self._closed = False
        self._aborted = False
        self._done: list[Callable[[], None]] = []
        """Work for the thread after it has released the lock, such as settling futures."""
        self._broken: RuntimeError | None = None
        programend.register(self)

    # -- calls come in -------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Hand a call to a worker as soon as one is free.

        Raises:
            RuntimeError: the thread has died; the cause is what it died of.
        """
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._board.add(call)
            self._idle_since_s = None
            self._assign()
            if self._thread is None:
                try:
                    self._start_thread()
                except BaseException:
                    self._board.queue.remove(call)  # no worker had connected that could have taken it
                    raise
            if self._board.queue and self._open is None:
                self._poller.wake()

    def close(self, *, cancel: bool = False) -> None:
        """Let workers go as soon as no call is left; with `cancel` take back the queued calls."""
        with self._lock:
            self._closed = True
            dropped = self._board.take_queue() if cancel else []
            idle = self._thread is None
            self._poller.wake()
        if idle:
            self._release_session()
        for call in dropped:
            call.cancel()

    def abort(self) -> None:
        """End all calls, running ones included: cancel their job, without waiting for it."""
        with self._lock:
            self._closed = self._aborted = True
            self._poller.wake()

    def join(self) -> None:
        """Wait until all calls are done and their workers gone."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def end_soon(self) -> None:
        """The program ends: keep no worker that has nothing to do."""
        self._wake()

    # -- the thread ------------------------------------------------------------------

    def _start_thread(self) -> None:
        self._poller.open()
        # Not a daemon thread: a program that ends waits for its calls, as with other executors.
        thread = threading.Thread(target=self._serve, name="ktask-calls", daemon=False)
        try:
            thread.start()
        except BaseException:
            self._poller.close()
            raise
        self._thread = thread

    def _wake(self) -> None:
        with self._lock:
            self._poller.wake()

    def _serve(self) -> None:
        over = False
        try:
            while not over:
                self._serve_once()
                if self._aborted or programend.is_interrupted():
                    self._drop_all()
                with self._lock:
                    over = not (self._board.queue or self._bursts)
                    if over:
                        self._end_thread()
        except BaseException as error:
            self._give_up(error)
            raise
        if self._closed:
            self._release_session()

    def _serve_once(self) -> None:
        events = self._poller.selector.select(self._patience_s())
        with self._lock:
            for key, mask in events:
                self._on_event(key, mask)
            self._check_jobs()
        self._finish_done()
        if self._board.queue and self._open is None:
            self._begin_burst()

    def _finish_done(self) -> None:
        """Settle futures and the like; drop each entry at once, since it holds a result."""
        while self._done:
            self._done.pop(0)()

    def _drop_all(self) -> None:
        """Stop waiting for any call; the daemon ends those that run."""
        with self._lock:
            for burst in list(self._bursts):
                burst.run.cancel()
                for worker in list(burst.workers):
                    self._drop(worker)
                self._forget(burst)
            queued, self._open = self._board.take_queue(), None
        for call in queued:
            call.cancel()
        self._finish_done()

    def _end_thread(self) -> None:
        self._poller.close()
        self._thread = None

    def _give_up(self, error: BaseException) -> None:
        """Fail all calls, so that nobody waits forever after this thread has died."""
        with self._lock:
            self._broken = RuntimeError("executor: its thread has died; make another executor")
            self._broken.__cause__ = error
            in_hand = [call for burst in self._bursts for worker in burst.workers for call in worker.calls]
            calls = [*in_hand, *self._board.take_queue()]
            bursts, self._open = list(self._bursts), None
        self._finish_done()
        for burst in bursts:
            burst.run.cancel()  # the daemon ends its workers, which nobody serves any more
            burst.close()
            for worker in burst.workers:
                worker.hang_up()
        for call in calls:
            with contextlib.suppress(InvalidStateError):
                call.future.set_exception(error)

    def _release_session(self) -> None:
        """Let the session go; never with the lock held, which what ends with it may want."""
        session, self._session = self._session, None
        if session is not None:
            self._let_go(session)

    def _patience_s(self) -> float | None:
        """How long to wait for events; None = until one comes."""
        with self._lock:
            due_s = [burst.closed_s + UNATTENDED_S for burst in self._bursts if burst.is_unattended]
            if self._open is not None and self._idle_since_s is not None:
                due_s.append(0.0 if self._is_over() else self._idle_since_s + LINGER_S)
            if self._board.in_hand or self._board.queue:
                due_s.append(time.monotonic() + LOOK_S)
            return max(0.0, min(due_s) - time.monotonic()) if due_s else None

    def _on_event(self, key: selectors.SelectorKey, mask: int) -> None:
        if key.data is None:
            self._poller.note_woken()
        elif isinstance(key.data, Burst):
            key.data.accept(self._poller)
        else:
            # An event just before this one may have been the worker's end.
            if mask & selectors.EVENT_WRITE and key.data in key.data.burst.workers:
                key.data.send_rest()
            if mask & selectors.EVENT_READ:
                self._receive(key.data)

    # -- jobs ----------------------------------------------------------------------------

    def _begin_burst(self) -> None:
        """Submit a job for the queued calls; if that fails, they fail."""
        try:
            self._fresh = self._session is None
            if self._session is None:
                self._session = self._open_session()
            burst = self._begin(self._session, self._max_workers, self._wake)
        except Exception as error:
            self._release_session()
            self._fail_queued(error)
            return
        with self._lock:
            self._bursts.add(burst)
            self._open, self._idle_since_s = burst, None
            self._poller.selector.register(burst.listener, selectors.EVENT_READ, burst)

    def _check_jobs(self) -> None:
        """Handle jobs that have ended, and end those that need not go on."""
        now_s = time.monotonic()
        for burst in list(self._bursts):
            if burst.run.done():
                self._end(burst)
            elif burst.is_unattended and now_s >= burst.closed_s + UNATTENDED_S:
                burst.run.cancel()
        if self._open is None or self._board.queue:
            return
        idle_s = now_s - self._idle_since_s if self._idle_since_s is not None else 0.0
        if idle_s >= LINGER_S or self._is_over():
            self._close(self._open)

    def _is_over(self) -> bool:
        """Whether hardly any call will come."""
        return self._closed or programend.has_begun()

    def _close(self, burst: Burst) -> None:
        """Give a job no more calls; its workers end after the calls that they have."""
        burst.closed_s, self._open, self._idle_since_s = time.monotonic(), None, None
        self._board.ready.clear()
        for worker in burst.workers:
            if not (worker.calls or worker.leaving):
                worker.send(wire.pack(wire.NO_MORE))
        if not burst.workers:
            burst.run.cancel()  # no worker has connected, and none is needed any more

    def _end(self, burst: Burst) -> None:
        """Handle the end of a job: none of its workers lives."""
        for worker in list(burst.workers):
            while self._receive(worker):
                pass
            self._drop(worker)
        self._forget(burst)
        if self._open is burst:
            self._open = None
            self._after_failure(burst)

    def _forget(self, burst: Burst) -> None:
        self._poller.selector.unregister(burst.listener)
        burst.close()
        self._bursts.discard(burst)

    def _after_failure(self, burst: Burst) -> None:
        """Decide on calls that wait when their job has ended: the next job has them, or they fail.

        They fail if the job had no worker that took a call: the next one would get no further.
        """
        error = burst.error()
        if getattr(error, "code", "") == "UNAVAILABLE":
            self._done.append(self._release_session)
            if not self._fresh:
                return  # the daemon of an old session is gone; there may be another
        if not burst.began and error is not None:
            failed = error
            self._done.append(lambda: self._fail_queued(failed))

    def _fail_queued(self, error: Exception) -> None:
        with self._lock:
            calls = self._board.take_queue()
        for call in calls:
            call.fail(error)

    # -- workers -------------------------------------------------------------------------

    def _receive(self, worker: Peer) -> bool:
        """Handle what a worker has sent; whether there may be more."""
        try:
            frames = worker.receive()
        except BlockingIOError:
            return False
        if frames is None:
            self._drop(worker)
            return False
        for kind, number, payload in frames:
            self._on_frame(worker, kind, number, payload)
        return True

    def _on_frame(self, worker: Peer, kind: int, number: int, payload: Parcel) -> None:
        if kind == wire.HELLO:
            worker.pid = number
            self._check_python(worker, bytes(payload.inline).decode(errors="replace"))
        elif kind == wire.READY:
            worker.leaving, worker.is_helper = False, bool(number)
            self._on_ready(worker)
        elif kind == wire.AWAY:
            worker.leaving = True
            self._board.retire(worker)
            self._board.take_back(worker)
            self._assign()
            if not worker.calls:
                worker.send(wire.pack(wire.LEAVE))
        elif kind in (wire.RESULT, wire.RAISED) and (call := self._board.answered(worker, number)):
            answered = call
            self._done.append(lambda: answered.settle(kind, payload))
            worker.note_answer()
            if worker.calls:
                self._send_ahead(worker)
            elif worker.leaving:
                worker.send(wire.pack(wire.LEAVE))
        elif kind == wire.LOG:
            self._done.append(lambda: sockets.log(payload.inline))

    def _check_python(self, worker: Peer, theirs: str) -> None:
        if failed := sockets.python_error(theirs):
            self._done.append(partial(self._fail_queued, failed))
            if self._open is worker.burst:
                self._close(worker.burst)  # before any of its workers is given a call

    def _on_ready(self, worker: Peer) -> None:
        self._board.take_back(worker)
        if worker.burst.closed_s:
            worker.send(wire.pack(wire.NO_MORE))
            return
        self._board.ready.append(worker)
        self._assign()
        if self._board.ready and not self._board.queue and self._idle_since_s is None:
            self._idle_since_s = time.monotonic()

    def _assign(self) -> None:
        """Send waiting calls to ready workers."""
        for worker, call in self._board.assign():
            worker.send(*worker.message_of(call))
            worker.note_begin()
            self._send_ahead(worker)

    def _send_ahead(self, worker: Peer) -> None:
        if calls := self._board.send_ahead(worker):
            worker.send_ahead(calls)

    def _drop(self, worker: Peer) -> None:
        """Forget a worker that is gone, and fail the call that it had."""
        if worker not in worker.burst.workers:
            return
        worker.burst.workers.discard(worker)
        self._board.retire(worker)
        self._board.take_back(worker)
        worker.close()
        for call in self._board.lost(worker):
            self._done.append(partial(call.lose, worker.pid))
