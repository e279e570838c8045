"""The client's end of calls: hands them to the workers of a job that runs while there are any.

A job of python.calls is begun with the first call, and ended when no call has come for a while,
since its workers are processes. One whose workers are all busy, or that is ended while
some are, goes on until they are done; new calls then go to the next job.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import InvalidStateError

from ktask.errors import KtaskError
from ktask.link.session import Session
from ktask.own import programend
from ktask.own.bursts import Burst, Call, Peer, Shared, log, lost, tell
from ktask.v1 import calls as wire
from ktask.v1 import code

LINGER_S = 60.0
"""How long workers are kept while no call comes. They sleep, and others have their CPUs."""

UNATTENDED_S = 1.0
"""After so long a job is cancelled that needs no worker any more, and has none that would end it."""

LOOK_S = 0.2
"""Between two looks at whether the program was interrupted, while calls run or wait."""

_RECEIVE_BYTES = 256 * 1024


class CallServer:
    """Hands calls to workers, and their results to whoever waits. Thread-safe.

    One thread does what comes from workers; it exists while there are calls, and for LINGER_S
    after them. A call that finds a worker idle is sent by the thread that makes it.

    Args:
        open_session: connects to a daemon; called again where the last one is gone.
        max_workers: most calls at one time.
        let_go: what is done with a connection that is not needed any more.
        begin: has the daemon begin a job, as `Burst` does.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        max_workers: int,
        let_go: Callable[[Session], None],
        begin: Callable[[Session, int, Callable[[], None]], Burst] = Burst,
    ) -> None:
        """Nothing is begun before the first call."""
        self._open_session = open_session
        self._let_go = let_go
        self._begin = begin
        self._max_workers = max_workers
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._queue: deque[Call] = deque()
        self._numbers = 0
        self._bursts: set[Burst] = set()
        self._open: Burst | None = None
        self._fresh = False
        self._ready: list[Peer] = []
        self._in_hand = 0
        self._idle_since_s: float | None = None
        self._thread: threading.Thread | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wake_fd = -1
        self._closed = False
        self._aborted = False
        self._done: list[Callable[[], None]] = []
        self._broken: RuntimeError | None = None
        programend.tell(self)

    # -- calls come in -------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Have a worker do it, as soon as one is free; raises what the thread has died of, if it has."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._numbers += 1
            call.number = self._numbers
            self._queue.append(call)
            self._idle_since_s = None
            self._assign()
            if self._thread is None:
                try:
                    self._start_thread()
                except BaseException:
                    self._queue.remove(call)  # there was no worker that it could be given to
                    raise
            if self._queue and self._open is None:
                self._wake()

    def close(self, *, cancel: bool = False) -> None:
        """Let workers go as soon as there is no call any more; with `cancel` take those queued back."""
        with self._lock:
            self._closed = True
            dropped = list(self._queue) if cancel else []
            if cancel:
                self._queue.clear()
            idle = self._thread is None
            self._wake()
        if idle:
            self._release_session()
        for call in dropped:
            call.future.cancel()
            call.future.set_running_or_notify_cancel()

    def abort(self) -> None:
        """End all calls, those too that run: their job is cancelled, and nobody waits for it."""
        with self._lock:
            self._closed = self._aborted = True
            self._wake()

    def join(self) -> None:
        """Wait until all calls are done and their workers gone."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # -- the thread ------------------------------------------------------------------

    def _start_thread(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)
        # No daemon thread: a program that ends waits for its calls, as with other executors.
        thread = threading.Thread(target=self._serve, name="ktask-calls", daemon=False)
        try:
            thread.start()
        except BaseException:
            self._selector.close()
            os.close(self._wake_fd)
            self._selector, self._wake_fd = None, -1
            raise
        self._thread = thread

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def _on_end(self) -> None:
        with self._lock:
            self._wake()

    def _serve(self) -> None:
        over = False
        try:
            while not over:
                self._serve_once()
                if self._aborted or programend.is_interrupted():
                    self._drop_all()
                with self._lock:
                    over = not (self._queue or self._bursts)
                    if over:
                        self._end_thread()
        except BaseException as error:
            self._give_up(error)
            raise
        if self._closed:
            self._release_session()

    def _serve_once(self) -> None:
        assert self._selector is not None
        events = self._selector.select(self._patience_s())
        with self._lock:
            for key, mask in events:
                self._on_event(key, mask, self._done)
            self._look(self._done)
        self._finish_done()
        with self._lock:
            needs_burst = bool(self._queue) and self._open is None
        if needs_burst:
            self._begin_burst()

    def _finish_done(self) -> None:
        """Have each result where it is waited for; not kept any longer, since each holds one."""
        while self._done:
            self._done.pop(0)()

    def _drop_all(self) -> None:
        """Wait for no call any more; the daemon ends those that run."""
        done: list[Callable[[], None]] = []
        with self._lock:
            queued = list(self._queue)
            self._queue.clear()
            for burst in list(self._bursts):
                burst.run.cancel()
                for worker in list(burst.workers):
                    self._drop(worker, done)
                self._forget(burst)
            self._open = None
        for call in queued:
            call.future.cancel()
            call.future.set_running_or_notify_cancel()
        for tell_one in done:
            tell_one()

    def _end_thread(self) -> None:
        assert self._selector is not None
        self._selector.close()
        os.close(self._wake_fd)
        self._selector, self._wake_fd, self._thread = None, -1, None

    def _give_up(self, error: BaseException) -> None:
        """Whatever this thread died of, nobody shall wait for it for ever."""
        with self._lock:
            self._broken = RuntimeError("executor: its thread has died, wanted another executor")
            self._broken.__cause__ = error
            in_hand = [worker.call for burst in self._bursts for worker in burst.workers]
            calls = [*filter(None, in_hand), *self._queue]
            self._queue.clear()
            bursts, self._open = list(self._bursts), None
        self._finish_done()
        for burst in bursts:
            burst.run.cancel()  # its workers, which nobody serves, are let go
            burst.close()
            for worker in burst.workers:
                worker.sock.close()
        for call in calls:
            with contextlib.suppress(InvalidStateError):
                call.future.set_exception(error)

    def _release_session(self) -> None:
        """Not to be called with the lock: what ends with it may want that."""
        session, self._session = self._session, None
        if session is not None:
            self._let_go(session)

    def _patience_s(self) -> float | None:
        with self._lock:
            due_s = [burst.closed_s + UNATTENDED_S for burst in self._bursts if burst.is_unattended]
            if self._open is not None and self._idle_since_s is not None:
                due_s.append(0.0 if self._is_over() else self._idle_since_s + LINGER_S)
            if self._in_hand or self._queue:
                due_s.append(time.monotonic() + LOOK_S)
            return max(0.0, min(due_s) - time.monotonic()) if due_s else None

    def _on_event(self, key: selectors.SelectorKey, mask: int, done: list[Callable[[], None]]) -> None:
        if key.data is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
        elif isinstance(key.data, Burst):
            self._accept(key.data)
        else:
            if mask & selectors.EVENT_WRITE:
                self._send_on(key.data)
            if mask & selectors.EVENT_READ:
                self._receive(key.data, done)

    # -- bursts ------------------------------------------------------------------------

    def _begin_burst(self) -> None:
        """Begin a job for what is queued; where that fails, so do the calls."""
        try:
            self._fresh = self._session is None
            if self._session is None:
                self._session = self._open_session()
            burst = self._begin(self._session, self._max_workers, self._on_end)
        except Exception as error:
            self._release_session()
            self._fail_queued(error)
            return
        with self._lock:
            self._bursts.add(burst)
            self._open, self._idle_since_s = burst, None
            assert self._selector is not None
            self._selector.register(burst.listener, selectors.EVENT_READ, burst)

    def _look(self, done: list[Callable[[], None]]) -> None:
        """See which jobs have ended, and which need not go on."""
        now_s = time.monotonic()
        for burst in list(self._bursts):
            if burst.run.done():
                self._end(burst, done)
            elif burst.is_unattended and now_s >= burst.closed_s + UNATTENDED_S:
                burst.run.cancel()
        if self._open is None or self._queue:
            return
        idle_s = now_s - self._idle_since_s if self._idle_since_s is not None else 0.0
        if idle_s >= LINGER_S or self._is_over():
            self._close(self._open)

    def _is_over(self) -> bool:
        """Whether hardly any call will come."""
        return self._closed or programend.has_begun()

    def end_soon(self) -> None:
        """Keep no worker that has nothing to do: the program ends."""
        with self._lock:
            self._wake()

    def _close(self, burst: Burst) -> None:
        """Begin no call of it any more; workers that have one end after it."""
        burst.closed_s, self._open, self._idle_since_s = time.monotonic(), None, None
        self._ready.clear()
        for worker in burst.workers:
            if worker.call is None and not worker.leaving:
                self._send(worker, wire.pack(wire.NO_MORE))
        if not burst.workers:
            burst.run.cancel()  # nobody has come, and nobody need come any more

    def _end(self, burst: Burst, done: list[Callable[[], None]]) -> None:
        """The job has ended: no worker of it lives."""
        for worker in list(burst.workers):
            while self._receive(worker, done):
                pass
            self._drop(worker, done)
        self._forget(burst)
        if self._open is burst:
            self._open = None
            self._after_failure(burst, done)

    def _forget(self, burst: Burst) -> None:
        assert self._selector is not None
        self._selector.unregister(burst.listener)
        burst.close()
        self._bursts.discard(burst)

    def _after_failure(self, burst: Burst, done: list[Callable[[], None]]) -> None:
        """It has ended though calls may wait: they go to another one, unless that got nowhere."""
        error = burst.error()
        if getattr(error, "code", "") == "UNAVAILABLE":
            done.append(self._release_session)
            if not self._fresh:
                return  # the daemon that was known is gone; there may be another
        if not burst.began and error is not None:
            failed = error
            done.append(lambda: self._fail_queued(failed))

    def _fail_queued(self, error: Exception) -> None:
        with self._lock:
            calls = list(self._queue)
            self._queue.clear()
        for call in calls:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)

    # -- workers -------------------------------------------------------------------------

    def _accept(self, burst: Burst) -> None:
        worker = burst.accept()
        if worker is not None:
            assert self._selector is not None
            self._selector.register(worker.sock, selectors.EVENT_READ, worker)
            self._send(worker, burst.setup)

    def _receive(self, worker: Peer, done: list[Callable[[], None]]) -> bool:
        """Take what has come; whether there may be more."""
        try:
            data = worker.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop(worker, done)
            return False
        for kind, number, payload in worker.decoder.feed(data):
            self._on_frame(worker, kind, number, payload, done)
        return True

    def _on_frame(
        self, worker: Peer, kind: int, number: int, payload: bytes, done: list[Callable[[], None]]
    ) -> None:
        if kind == wire.HELLO:
            worker.pid = number
            self._check_python(worker, payload.decode(errors="replace"), done)
        elif kind == wire.READY:
            worker.leaving, worker.is_helper = False, bool(number)
            self._on_ready(worker)
        elif kind == wire.AWAY:
            worker.leaving = True
            if worker in self._ready:
                self._ready.remove(worker)
            if worker.call is None:
                self._send(worker, wire.pack(wire.LEAVE))
        elif kind in (wire.RESULT, wire.RAISED) and worker.call and worker.call.number == number:
            call, worker.call = worker.call, None
            self._in_hand -= 1
            done.append(lambda: tell(call, kind, payload))
            if worker.leaving:
                self._send(worker, wire.pack(wire.LEAVE))
        elif kind == wire.LOG:
            done.append(lambda: log(payload))

    def _check_python(self, worker: Peer, theirs: str, done: list[Callable[[], None]]) -> None:
        try:
            code.check_python(theirs)
        except code.CodeInvalid as error:
            failed = KtaskError(str(error), code="FAILED_PRECONDITION", reason="PYTHON_DIFFERS")
            done.append(lambda: self._fail_queued(failed))
            if self._open is worker.burst:
                self._close(worker.burst)  # before any of its workers is given a call

    def _on_ready(self, worker: Peer) -> None:
        if worker.burst.closed_s:
            self._send(worker, wire.pack(wire.NO_MORE))
            return
        self._ready.append(worker)
        self._assign()
        if self._ready and not self._queue and self._idle_since_s is None:
            self._idle_since_s = time.monotonic()

    def _assign(self) -> None:
        """Give what waits to who is idle."""
        while self._queue and self._ready and self._in_hand < self._max_workers:
            call = self._queue.popleft()
            if not call.future.set_running_or_notify_cancel():
                continue
            worker = self._take_ready()
            worker.call = call
            worker.burst.began = True
            self._in_hand += 1
            if call.function is not None:
                self._send_function(worker, call.function)
                self._send(worker, wire.pack_call_of(call.number, call.function.number, call.payload))
            else:
                self._send(worker, wire.pack(wire.CALL, call.number, call.payload))

    def _take_ready(self) -> Peer:
        """The one that was idle last, since its caches are warm; rather one that has a CPU for sure."""
        sure = (i for i in reversed(range(len(self._ready))) if not self._ready[i].is_helper)
        return self._ready.pop(next(sure, -1))

    def _send_function(self, worker: Peer, function: Shared) -> None:
        if function.number not in worker.known:
            worker.known[function.number] = None
            if len(worker.known) > wire.FUNCTIONS_MAX:
                del worker.known[next(iter(worker.known))]
            self._send(worker, wire.pack(wire.FUNCTION, function.number, function.pickled))

    def _send(self, worker: Peer, frame: bytes) -> None:
        """Send what can be sent now; the thread sends the rest."""
        if worker.unsent:
            worker.unsent.append(memoryview(frame))
            return
        try:
            sent = worker.sock.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has ended, which the thread sees by itself
        if sent < len(frame):
            worker.unsent.append(memoryview(frame)[sent:])
            self._watch(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)
            self._wake()

    def _send_on(self, worker: Peer) -> None:
        if worker not in worker.burst.workers:
            return  # what came just before was its end
        while worker.unsent:
            piece = worker.unsent[0]
            try:
                sent = worker.sock.send(piece)
            except BlockingIOError:
                return
            except OSError:
                worker.unsent.clear()
                break
            if sent < len(piece):
                worker.unsent[0] = piece[sent:]
                return
            worker.unsent.popleft()
        self._watch(worker, selectors.EVENT_READ)

    def _watch(self, worker: Peer, mask: int) -> None:
        assert self._selector is not None
        self._selector.modify(worker.sock, mask, worker)

    def _drop(self, worker: Peer, done: list[Callable[[], None]]) -> None:
        """It is gone, and with it the call that it had."""
        if worker not in worker.burst.workers:
            return
        worker.burst.workers.discard(worker)
        assert self._selector is not None
        self._selector.unregister(worker.sock)
        worker.sock.close()
        if worker in self._ready:
            self._ready.remove(worker)
        call, worker.call = worker.call, None
        if call is not None:
            self._in_hand -= 1
            done.append(lambda: call.future.set_exception(lost(worker.pid)))
