"""One job of python.calls and the workers that have connected to it."""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ktask import convert
from ktask.errors import JobFailed
from ktask.link import rpc
from ktask.link.rpc import grpc
from ktask.link.session import Session
from ktask.own import sockets
from ktask.own.futures import Call, Shared
from ktask.own.poller import Poller
from ktask.own.tokens import Tokens
from ktask.results import JobState
from ktask.v1 import calls as wire
from ktask.v1 import jobs_pb2 as pb
from ktask.v1.parcels import Parcel
from ktask.v1.segments import Segment

Segments = tuple[Segment | Tokens, ...]
"""Objects whose descriptors a message takes along."""

QUICK_S = 0.002
"""A worker that takes longer for a call is sent none ahead: waiting for each costs it little."""

SLICES = 2**32
"""Positions of the job; more than it could ever use."""

_RECEIVE_BYTES = 256 * 1024
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)
"""As plain numbers, with which the operators are much faster."""


class Peer:
    """A worker that has connected.

    Attributes:
        calls: the call that it makes, and those that it was sent ahead.
        tokens: for the calls that it was sent ahead.
        takes_ahead: whether it may be sent further calls ahead.
        is_quick: whether it has answered its last call at once.
        leaving: whether it wants no call for now.
        is_helper: whether it gives way to everybody else on the machine.
        pid: its process; 0 until it has sent HELLO.
    """

    def __init__(self, sock: socket.socket, burst: Burst, poller: Poller) -> None:
        """Have `poller` watch it from now on."""
        self.sock, self.burst = sock, burst
        self._poller = poller
        self.calls: deque[Call] = deque()
        self.tokens = Tokens()
        self.takes_ahead = self.is_quick = False
        self._since_s = 0.0
        self.leaving = False
        self.is_helper = False
        self.pid = 0
        self._decoder = wire.Decoder()
        self._unsent: deque[tuple[memoryview, Segments]] = deque()
        self._known: dict[int, None] = {}
        self._passed: deque[Segment] = deque()
        self._table: tuple[bytes, tuple[Segment, ...]] = b"", ()
        poller.selector.register(sock, selectors.EVENT_READ, self)

    def close(self) -> None:
        """End the connection."""
        self._poller.selector.unregister(self.sock)
        self.hang_up()

    def hang_up(self) -> None:
        """Give the descriptors back."""
        self.sock.close()
        self.tokens.close()

    def send(self, frames: bytes, segments: Segments = ()) -> None:
        """Send what can be sent now; the thread that polls sends the rest."""
        if self._unsent:
            self._unsent.append((memoryview(frames), segments))
            return
        sent = self._send(frames, segments)
        if sent is not None and sent < len(frames):
            self._unsent.append((memoryview(frames)[sent:], segments if not sent else ()))
            self._poller.selector.modify(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
            self._poller.wake()

    def send_rest(self) -> None:
        """Send what had to wait, as far as that is possible now."""
        while self._unsent:
            piece, segments = self._unsent[0]
            sent = self._send(piece, segments)
            if sent is None:
                self._unsent.clear()
                break
            if sent < len(piece):
                self._unsent[0] = piece[sent:], segments if not sent else ()
                return
            self._unsent.popleft()
        self._poller.selector.modify(self.sock, selectors.EVENT_READ, self)

    def _send(self, frames: bytes | memoryview, segments: Segments) -> int | None:
        """Return how many bytes could be sent, with all descriptors if any; None: the worker has ended."""
        try:
            if not segments:
                return self.sock.send(frames)
            return socket.send_fds(self.sock, [frames], [segment.fd for segment in segments])
        except BlockingIOError:
            return 0
        except OSError as error:
            # As many descriptors of this user as may be are on their way; they will arrive.
            return 0 if error.errno == errno.ETOOMANYREFS else None  # the next read finds a worker's end

    def receive(self) -> list[tuple[int, int, Parcel]] | None:
        """Kind, number and payload of each frame that is whole now; None at the end of the connection.

        A worker whose frames make no sense, or whose descriptors are lost, counts as ended.

        Raises:
            BlockingIOError: nothing has come.
        """
        try:
            data, passed, flags, _ = self.sock.recvmsg(_RECEIVE_BYTES, wire.ANCILLARY_BYTES, _CLOEXEC)
        except BlockingIOError:
            raise
        except OSError:
            return None
        if passed:
            self._passed += map(Segment.received, wire.descriptors(passed))
        if flags & _TRUNCATED:
            return None  # this process has no descriptor left, and nobody knows which ones are missing
        try:
            return [*self._parcels(self._decoder.feed(data))] if data else None
        except wire.CallsInvalid:
            return None

    def _parcels(self, frames: Iterable[tuple[int, int, bytes]]) -> Iterator[tuple[int, int, Parcel]]:
        """The frames, each with the segments that came before it; raises CallsInvalid."""
        for kind, number, payload in frames:
            if kind == wire.MEMORY:
                if number > len(self._passed):
                    raise wire.CallsInvalid(f"MEMORY frame: {number} descriptors, {len(self._passed)} came")
                self._table = payload, tuple(self._passed.popleft() for _ in range(number))
            else:
                yield kind, number, Parcel(payload, *self._table)
                self._table = b"", ()

    def note_begin(self) -> None:
        """Note that a call begins."""
        self._since_s = time.monotonic()

    def note_answer(self) -> None:
        """Note that a call has ended, and that the next one begins."""
        now_s = time.monotonic()
        self.is_quick, self._since_s = now_s - self._since_s < QUICK_S, now_s

    def send_ahead(self, calls: Sequence[Call]) -> None:
        """Send calls that the worker may begin when it has ended those before them.

        Their arguments are short, and it has their functions: their frames mention no descriptor.
        """
        self.send(b"".join(wire.pack(wire.AHEAD) + self.message_of(call)[0] for call in calls))
        self.tokens.put(len(calls))

    def has_function_of(self, call: Call) -> bool:
        """Whether the worker has all that a call needs besides its arguments."""
        return call.function is None or call.function.number in self._known

    def message_of(self, call: Call) -> tuple[bytes, Segments]:
        """Frames that hand a call over: its function first, if this worker does not have it."""
        parts: list[bytes] = []
        segments: Segments = call.payload.segments
        if call.function is not None and call.function.number not in self._known:
            self._learn(call.function)
            pickled = call.function.pickled
            parts += [*_memory(pickled), wire.pack(wire.FUNCTION, call.function.number, pickled.inline)]
            segments = pickled.segments + segments
        parts += _memory(call.payload)
        if call.function is None:
            parts.append(wire.pack(wire.CALL, call.number, call.payload.inline))
        else:
            parts.append(wire.pack_call_of(call.number, call.function.number, call.payload.inline))
        return b"".join(parts), segments

    def _learn(self, function: Shared) -> None:
        """Note that the worker has a function; like the worker, forget the oldest beyond the limit."""
        self._known[function.number] = None
        if len(self._known) > wire.FUNCTIONS_MAX:
            del self._known[next(iter(self._known))]


def _memory(parcel: Parcel) -> list[bytes]:
    """The frame before a parcel's small parts, if it has others."""
    return [wire.pack(wire.MEMORY, len(parcel.segments), parcel.table)] if parcel.table else []


class Burst:
    """One job of python.calls.

    Attributes:
        began: whether any call was given to one of its workers.
        closed_s: when it was decided that it gets no more calls; 0 = it may get some.
    """

    def __init__(
        self,
        session: Session,
        max_workers: int,
        on_end: Callable[[], None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Listen, and submit the job. Raises KtaskError or OSError."""
        self.setup = wire.pack(wire.SETUP, 0, sockets.surroundings_for(session.endpoint))
        self.workers: set[Peer] = set()
        self.began = False
        self.closed_s = 0.0
        self.path, self.listener = sockets.listen(session.endpoint)
        try:
            spec = pb.JobSpec(function="python.calls", max_threads=max_workers, labels=labels)
            spec.arg.fields["line"].string_value = wire.line_of(self.path)
            spec.ranges.add(start=0, length=SLICES, nid=-1)
            self.run = session.stubs.jobs.Run.future(pb.RunRequest(spec=spec))
        except BaseException:
            self.close()
            raise
        self.run.add_done_callback(lambda _: on_end())

    def close(self) -> None:
        """Stop listening."""
        sockets.close(self.path, self.listener)

    @property
    def is_unattended(self) -> bool:
        """Whether it gets no more calls, and has no worker that could be sent NO_MORE."""
        return bool(self.closed_s) and not self.workers

    def accept(self, poller: Poller) -> None:
        """Send the next worker that has connected, if there is one, what it needs before any call."""
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        sockets.lend_output(sock)
        try:
            peer = Peer(sock, self, poller)
        except OSError:
            sock.close()  # no descriptor is left for its tokens
            return
        peer.send(self.setup)
        peer.send(wire.pack(wire.TOKENS), (peer.tokens,))
        self.workers.add(peer)

    def error(self) -> Exception | None:
        """Why the job did not succeed, None if it did; ask when it has ended."""
        try:
            job = convert.job(self.run.result().job)
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if isinstance(error, grpc.RpcError):
                return rpc.translate(error)
            return None
        return None if job.state is JobState.SUCCEEDED else JobFailed(job)
