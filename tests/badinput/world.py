"""The tools of one case: sources of known content, and ways to send bad input."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from ktask.v1 import control_pb2, handoff
from ktask.v1 import jobs_pb2 as pb

from tests.badinput.other import Other
from tests.badinput.shared_daemon import HELPERS, LEADS, SharedDaemon
from tests.support.real_daemon import (
    PATIENCE_S,
    Refusal,
    find_by_request,
    refusal_of,
    spec,
    spin,
    until,
    wait_ended,
    wait_state,
)

MIB = 1 << 20
SIZE = 4 * MIB
PATTERN = random.Random(20).randbytes(SIZE)
"""The content of every source before its case; no byte of it may change unexpectedly."""

HANDOFF = "handoff"
"""In place of a gRPC code, if the handoff socket refused."""

Outcome = Any
"""A Refusal, the job in the answer to a call, or another answer."""

_F_ADD_SEALS = 1033


class Refused(Exception):
    """The handoff socket refused; carries the refusal to the end of the case."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass
class Source:
    """Something that a job's spec can name.

    Args:
        ref: its JSON, as of pb.Source.
        fd: for reading and changing it; -1 if it has no bytes.
        expected: the content that it must have at the end of the case, in any event.
        given: the descriptor that was handed over.
    """

    ref: dict[str, str]
    fd: int = -1
    expected: bytearray = field(default_factory=bytearray)
    given: int = -1

    def read(self) -> bytes:
        """Its first bytes, as many as are expected, or one more if it became longer."""
        return os.pread(self.fd, len(self.expected) + 1, 0)


Maker = Callable[["World"], Source]


class World:
    """Opens sources and makes calls for a case. Closes everything when its block ends."""

    def __init__(self, shared: SharedDaemon, place: Path, other: Other | None = None) -> None:
        """`other` is another user, if the case needs one; `place` an empty directory."""
        self.shared = shared
        self.jobs = shared.stubs.jobs
        self.control = shared.stubs.control
        self.place = place
        self._other = other
        self.sources: list[Source] = []
        self.roles: dict[str, Source] = {}
        self.extra_jobs = 0
        """Accepted jobs that are not the subject of the case."""
        self._stack = ExitStack()
        self._door: socket.socket | None = None

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def other(self) -> Other:
        assert self._other is not None, "the case must say that it needs another user"
        return self._other

    def own(self, fd: int) -> int:
        """Close `fd` at the end."""
        self._stack.callback(_close_if_open, fd)
        return fd

    # -- sources ---------------------------------------------------------------

    def add(self, source: Source) -> Source:
        """Check the bytes of this source at the end."""
        self.sources.append(source)
        return source

    def hand(self, *fds: int, flags: Sequence[int] | None = None) -> list[str]:
        """Handles of descriptors; raises Refused. They live as long as the case."""
        flags = (handoff.OWN_OFFSET,) * len(fds) if flags is None else flags
        request = handoff.encode_request(handoff.Hand(7, tuple(flags)))
        reply = self.exchange(request, fds)
        assert isinstance(reply, handoff.Handles), reply
        assert reply.number == 7
        return list(reply.handles)

    def exchange(self, request: bytes, fds: Sequence[int] = ()) -> handoff.Reply:
        """Send any bytes to the handoff socket; returns the reply, raises Refused if that is an error."""
        socket.send_fds(self.door(), [request], fds)
        reply = handoff.decode_reply(self.door().recv(handoff.REPLY_BYTES_MAX))
        if isinstance(reply, handoff.Refused):
            what = f"descriptor {reply.index}" if reply.index >= 0 else ""
            raise Refused(Refusal(HANDOFF, reply.reason, reply.message, what, "ktask"))
        return reply

    def door(self) -> socket.socket:
        """The case's connection to the handoff socket."""
        if self._door is None:
            self._door = self.new_door()
        return self._door

    def new_door(self) -> socket.socket:
        """Make another connection."""
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        sock.settimeout(PATIENCE_S)
        sock.connect(os.fspath(self.shared.daemon.handoff))
        return sock

    # -- calls -------------------------------------------------------------------

    def spec(
        self, function: str, sources: dict[str, Maker], items: Sequence[Maker], **fields: Any
    ) -> pb.JobSpec:
        """A spec whose sources are made now."""
        for role, make in sources.items():
            self.roles[role] = make(self)
        made = [make(self) for make in items]
        if sources:
            fields["sources"] = {role: self.roles[role].ref for role in sources}
        if made:
            fields["items"] = [source.ref for source in made]
        return spec(function, **fields)

    def run(self, wanted: pb.JobSpec, **options: Any) -> Outcome:
        """Run a job to its end."""
        return attempt(lambda: self.jobs.Run(pb.RunRequest(spec=wanted), timeout=PATIENCE_S, **options).job)

    def submit(self, wanted: pb.JobSpec) -> Outcome:
        """Submit a job, for which nobody waits."""
        return attempt(lambda: self.jobs.Submit(pb.SubmitRequest(spec=wanted), timeout=PATIENCE_S).job)

    def raw(self, method: str, request: bytes, **options: Any) -> Outcome:
        """Send bytes as a request, without a library that would check them first."""
        call: Callable[..., bytes] = self.shared.stubs.channel.unary_unary(f"/{method}")
        return attempt(lambda: call(request, timeout=PATIENCE_S, **options))

    # -- while the job waits --------------------------------------------------------

    @contextmanager
    def all_busy(self) -> Iterator[None]:
        """Keep all workers busy in this block."""
        calls = []
        try:
            for _ in range(LEADS + HELPERS):
                wanted = spin(10**6, 50, max_threads=10**6, request_id=uuid.uuid4().hex)
                calls.append(self.jobs.Run.future(pb.RunRequest(spec=wanted)))
                find_by_request(self.jobs, wanted.request_id)
                self.extra_jobs += 1
            until(self._none_free, "all workers are busy")
            yield
        finally:
            for call in calls:
                call.cancel()
            until(lambda: len(self.unended()) <= 1, "the busy jobs have ended")

    def _none_free(self) -> bool:
        status = self.control.GetStatus(control_pb2.GetStatusRequest()).status
        leads = [pool for pool in status.pools if pool.name == "leads"]
        states = [worker.state for pool in leads for worker in pool.workers]
        # Next to so many leads helpers get no CPU, and are given a chunk now and then; but
        # those jobs were there before any that comes now.
        return set(states) == {control_pb2.WORKER_STATE_BUSY} and len(states) >= status.allowance.leads

    def unended(self) -> list[pb.Job]:
        """Jobs of all users that have not ended."""
        wanted = [pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING, pb.JOB_STATE_DRAINING, pb.JOB_STATE_UNDOING]
        return list(self.jobs.List(pb.ListRequest(states=wanted)).jobs)

    def run_after(self, wanted: pb.JobSpec, change: Callable[[], None]) -> Outcome:
        """Run a job that is accepted before `change` and begins after it."""
        with self.all_busy():
            job = self.submit(wanted)
            if isinstance(job, Refusal):
                return job
            change()
            assert self.jobs.Get(pb.GetRequest(id=job.id)).job.state == pb.JOB_STATE_QUEUED
        return wait_ended(self.jobs, job.id)

    def run_amid(self, wanted: pb.JobSpec, change: Callable[[], None]) -> Outcome:
        """Run a job, with `change` while it works."""
        job = self.submit(wanted)
        if isinstance(job, Refusal):
            return job
        call = self.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S)
        for message in call:
            assert message.job.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING), message.job
            if message.job.progress.positions_done > 0:
                break
        call.cancel()
        change()
        return wait_ended(self.jobs, job.id)

    def cancelled(self, job: Outcome) -> Outcome:
        """Cancel an accepted job that would take forever; returns it after its end."""
        if isinstance(job, Refusal):
            return job
        self.jobs.Cancel(pb.CancelRequest(id=job.id))
        return wait_state(self.jobs, job.id, "CANCELLED")

    # -- the end --------------------------------------------------------------------

    def check_bytes(self) -> None:
        """Check that every source has the expected content."""
        for source in self.sources:
            got = source.read()
            if got != source.expected:
                pairs = zip(got, source.expected, strict=False)
                first = next((i for i, (a, b) in enumerate(pairs) if a != b), "none")
                raise AssertionError(
                    f"{source.ref}: {len(got)} bytes, wanted {len(source.expected)}; first wrong: {first}"
                )


def attempt(call: Callable[[], Outcome]) -> Outcome:
    """The answer to a call, or its refusal."""
    try:
        return call()
    except grpc.RpcError as error:
        return refusal_of(error)


def _close_if_open(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


# -- makers of sources ----------------------------------------------------------------


def memfd(
    size: int = SIZE, *, mode: int = os.O_RDWR, seals: int = 0, append: bool = False, own_offset: bool = True
) -> Maker:
    """Memory of `size` bytes, the first of them PATTERN's, handed over as opened with `mode`."""

    def make(world: World) -> Source:
        fd = world.own(os.memfd_create("bad", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.pwrite(fd, PATTERN[: min(size, SIZE)], 0)
        os.truncate(fd, size)
        source = world.add(Source({}, fd, bytearray(PATTERN[: min(size, SIZE)])))
        if seals:
            seal(fd, seals)
        flags = mode | (os.O_APPEND if append else 0)
        given = fd if flags == os.O_RDWR else world.own(os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC))
        source.given = given
        (source.ref["handle"],) = world.hand(given, flags=[int(own_offset)])
        return source

    return make


def seal(fd: int, seals: int) -> None:
    """Add seals to a memfd."""
    fcntl.fcntl(fd, _F_ADD_SEALS, seals)


def file(flags: int = os.O_RDWR, *, by_path: bool = False, size: int = SIZE) -> Maker:
    """A file in the case's directory, handed over as opened with `flags`, or named by its path."""

    def make(world: World) -> Source:
        path = world.place / f"file-{len(world.sources)}"
        path.write_bytes(PATTERN[:size])
        fd = world.own(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        source = world.add(Source({}, fd, bytearray(PATTERN[:size])))
        if by_path:
            source.ref["path"] = str(path)
        else:
            source.given = world.own(os.open(path, flags | os.O_CLOEXEC))
            (source.ref["handle"],) = world.hand(source.given)
        return source

    return make


def at(path: Callable[[World], str]) -> Maker:
    """A path for the daemon to open, with anything at it."""
    return lambda world: Source({"path": path(world)})


def descriptor(open_it: Callable[[World], int]) -> Maker:
    """Any descriptor; the case owns it."""
    return lambda world: Source({"handle": world.hand(world.own(open_it(world)))[0]})


def handle(text: str) -> Maker:
    """A text as a handle."""
    return lambda world: Source({"handle": text})


def nothing() -> Maker:
    """A source that names neither a handle nor a path."""
    return lambda world: Source({})


def same_as(role: str) -> Maker:
    """The source of another role, made before this one."""
    return lambda world: world.roles[role]
