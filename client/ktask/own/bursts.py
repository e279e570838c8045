"""Calls, and the jobs that run them: what `calls` hands out, and to whom."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import secrets
import socket
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from ktask import convert
from ktask.errors import JobFailed, KtaskError
from ktask.link import rpc
from ktask.link.locate import VARIABLE, Place, short_path
from ktask.link.rpc import grpc
from ktask.link.session import Session
from ktask.results import JobState
from ktask.v1 import calls as wire
from ktask.v1 import code, surroundings
from ktask.v1 import jobs_pb2 as pb

Value = TypeVar("Value")

_log = logging.getLogger("concurrent.futures")

TURNS = 2**32
"""More than a job could ever use."""

_BACKLOG = 128


class WorkerLost(KtaskError, BrokenProcessPool):
    """The worker of a call ended before it had answered; other calls are not concerned.

    It is a BrokenProcessPool, so that programs which were written for that pool catch it.
    """


class CallFuture(Future[Value]):
    """A future whose callbacks end no thread of the executor, whatever they raise."""

    def add_done_callback(self, fn: Callable[[Future[Value]], object]) -> None:
        """Call `fn` when the call has ended; at once, and as it is, where that is so already."""
        super().add_done_callback(fn if self.done() else partial(_call_back, fn))


def _call_back(fn: Callable[[Future[Any]], object], future: Future[Any]) -> None:
    try:
        fn(future)
    except Exception:
        raise  # which is logged, and the other callbacks are called
    except BaseException:
        # SystemExit and the like are for the program, and this thread is everybody's.
        _log.exception("exception calling callback for %r", future)


class Shared:
    """A function that several calls share, and that each worker is sent once."""

    _numbers = itertools.count(1)

    def __init__(self, function: Callable[..., Any]) -> None:
        """Pickle it; raises what that raises."""
        self.pickled = code.dumps(function)
        self.number = next(self._numbers)


class Call:
    """One call, and who waits for it.

    Args:
        payload: function, arguments and keyword arguments, pickled; with `function` the
            arguments alone.
    """

    __slots__ = ("function", "future", "number", "payload")

    def __init__(self, future: Future[Any], payload: bytes, function: Shared | None = None) -> None:
        """It has no number before it is queued."""
        self.future, self.payload, self.function = future, payload, function
        self.number = 0


class Peer:
    """A worker that has connected."""

    def __init__(self, sock: socket.socket, burst: Burst) -> None:
        """Nothing was said yet."""
        self.sock, self.burst = sock, burst
        self.decoder = wire.Decoder()
        self.unsent: deque[memoryview] = deque()
        self.known: dict[int, None] = {}
        self.call: Call | None = None
        self.leaving = False
        self.is_helper = False
        """Whether it gives way to everybody else on the machine."""
        self.pid = 0


class Burst:
    """One job of python.calls."""

    def __init__(
        self,
        session: Session,
        max_workers: int,
        on_end: Callable[[], None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Listen, and have the daemon begin. Raises KtaskError or OSError."""
        self.setup = wire.pack(wire.SETUP, 0, surroundings_for(session.place))
        self.workers: set[Peer] = set()
        self.began = False
        """Whether any call was given to one of its workers."""
        self.closed_s = 0.0
        """When it was decided that it gets no more calls; 0 = it may get some."""
        self.path, self.listener = listen(session.place)
        try:
            spec = pb.JobSpec(function="python.calls", max_threads=max_workers, labels=labels)
            spec.arg.fields["line"].string_value = wire.line_of(self.path)
            spec.ranges.add(start=0, length=TURNS, nid=-1)
            self.run = session.wire.jobs.Run.future(pb.RunRequest(spec=spec))
        except BaseException:
            self.close()
            raise
        self.run.add_done_callback(lambda _: on_end())

    def close(self) -> None:
        """Listen no more."""
        self.listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    @property
    def is_unattended(self) -> bool:
        """Whether it gets no more calls, and has no worker to be told so."""
        return bool(self.closed_s) and not self.workers

    def accept(self) -> Peer | None:
        """The next worker that has connected; None where there is none."""
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return None
        sock.setblocking(False)
        lend_output(sock)
        peer = Peer(sock, self)
        self.workers.add(peer)
        return peer

    def error(self) -> Exception | None:
        """Why the job ended otherwise than well; to be asked when it has ended."""
        try:
            job = convert.job(self.run.result().job)
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if isinstance(error, grpc.RpcError):
                return rpc.translate(error)
            return None
        return None if job.state is JobState.SUCCEEDED else JobFailed(job)


def surroundings_for(place: Place) -> bytes:
    """What calls find around them; one that uses ktask finds the daemon that runs it."""
    return surroundings.take({VARIABLE: os.path.dirname(place.socket)})


def lend_output(sock: socket.socket) -> None:
    """Have what a worker prints go where this process prints; its end of the line has just come.

    As in a pool of processes these are the descriptors, whatever sys.stdout is.
    """
    numbers = [number for number in (1, 2) if _is_open(number)]
    with contextlib.suppress(OSError):  # it has ended, which is seen when it is read from
        socket.send_fds(sock, [wire.pack(wire.OUTPUT, 0, bytes(numbers))], numbers)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def log(payload: bytes) -> None:
    """Handle a record of logging as if it had been made here; never raises."""
    try:
        record = logging.makeLogRecord(pickle.loads(payload))
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        # A filter or a handler of the program, which would raise into its own call to log.
        _log.exception("exception handling a record that was logged in a worker")


def listen(place: Place) -> tuple[str, socket.socket]:
    """A socket that only this user reaches: in the directory that the daemon keeps to itself."""
    directory = os.path.join(os.path.dirname(place.socket), wire.DIRECTORY)
    path = os.path.join(directory, wire.NAME_PREFIX + secrets.token_hex(4))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as short:
            listener.bind(short)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        words = f'calls: socket "{path}": {error.strerror}; wanted a daemon of this user: connect(own=True)'
        raise KtaskError(words, code="FAILED_PRECONDITION", reason="CALLS_UNREACHABLE") from error
    return path, listener


def lost(pid: int) -> WorkerLost:
    """What a call fails with whose worker has ended."""
    return WorkerLost(f"call: its worker (process {pid}) ended before it had answered", reason="WORKER_LOST")


def tell(call: Call, kind: int, payload: bytes) -> None:
    """Let whoever waits have the result, or the exception."""
    if kind == wire.RAISED:
        call.future.set_exception(code.load_exception(payload))
        return
    try:
        value = pickle.loads(payload)
    except BaseException as error:  # SystemExit too: the thread is everybody's
        call.future.set_exception(error)
        return
    call.future.set_result(value)
