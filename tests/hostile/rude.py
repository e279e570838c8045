"""A program that attacks with hand-made HTTP/2, as one uid or many, in ways that gRPC's own client cannot.

rudeness.py has root start it with the directory of the sockets, the name of an attack, a number
and uids; each uid is a process of its own. It goes on until standard input ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.hostile.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    UNKNOWN,
    WINDOW_UPDATE,
    Connection,
    frame,
    headers,
    message,
)

HALF_BYTES = 4 * 1024 * 1024 - 100
REST_S = 0.002
"""Pause between two rounds of one uid."""

SERVER_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


# -- the attacks: each yields when it has begun, and then after each round ------------

Attack = Callable[[str, int], Iterator[None]]


def connections(place: str, count: int, **options: Any) -> list[Connection]:
    made = [Connection(place, **options) for _ in range(count)]
    for one in made:
        one.pump(0.01)
    return made


def flood(place: str, count: int, more: Callable[[Connection], bytes]) -> Iterator[None]:
    """Connections that send more of the same as fast as the daemon takes it."""
    made = connections(place, count)
    while True:
        for i, one in enumerate(made):
            if one.dead:
                made[i] = one = Connection(place)
            if not one.full:
                one.out += more(one)
            one.pump()
        yield


def resets(place: str, count: int) -> Iterator[None]:
    """A call and its reset right behind it, over and over."""
    block, body = headers("/ktask.v1.Control/GetStatus"), message(b"")

    def more(one: Connection) -> bytes:
        found = []
        for _ in range(100):
            one.stream += 2
            found.append(frame(HEADERS, END_HEADERS, one.stream, block))
            found.append(frame(DATA, END_STREAM, one.stream, body))
            found.append(frame(RST_STREAM, 0, one.stream, struct.pack(">I", 8)))
        return b"".join(found)

    yield from flood(place, count, more)


def frames(data: bytes) -> Attack:
    def attack(place: str, count: int) -> Iterator[None]:
        yield from flood(place, count, lambda _: data)

    return attack


def reflection(place: str, count: int) -> Iterator[None]:
    """Many questions in each frame of a stream that never ends."""
    block = message(b"\x3a\0") * 500  # list_services: ""
    made = [Connection(place, window=(1 << 31) - 1) for _ in range(count)]
    streams = {one: one.open(SERVER_REFLECTION) for one in made}
    while True:
        for one, stream in list(streams.items()):
            if one.dead or stream in one.ended:
                streams[one] = one.open(SERVER_REFLECTION) if not one.dead else stream
            one.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)) if not one.full else b""
            if not one.full:
                one.push(streams[one], block)
            one.got.clear()
            one.pump()
        yield


def lists(place: str, count: int) -> Iterator[None]:
    """Lists of other users' jobs, one after the other on each connection."""
    from ktask.v1 import jobs_pb2 as pb

    request = message(pb.ListRequest(page_size=1000, labels={"no": "such"}).SerializeToString())
    made = connections(place, count, window=(1 << 31) - 1)
    streams: dict[Connection, int] = {}
    while True:
        for one in made:
            if one not in streams or streams[one] in one.ended:
                one.got.clear()
                streams[one] = one.open("/ktask.v1.Jobs/List", request=request, end=True)
            one.pump()
        time.sleep(0.001)
        yield


def large_job(place: str, function: str = "file.crc32", items: int = 100_000, **args: Any) -> tuple[Any, str]:
    """A job of many items; the socket that holds their handle, and the job's id."""
    from ktask.v1 import handoff
    from ktask.v1 import jobs_pb2 as pb

    fd = os.memfd_create("large")
    os.write(fd, b"a line\n" * 2000)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(f"{place}/handoff.sock")
    socket.send_fds(sock, [handoff.encode_request(handoff.Hand(1, (1,)))], [fd])
    reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
    assert isinstance(reply, handoff.Handles), reply
    spec = pb.JobSpec(function=function, items=[pb.Source(handle=reply.handles[0])] * items)
    spec.arg.update(args)
    line = Connection(place, window=(1 << 31) - 1)
    request = message(pb.SubmitRequest(spec=spec).SerializeToString())
    stream, at = line.open("/ktask.v1.Jobs/Submit"), 0
    while at < len(request) and not line.dead:
        at += line.push(stream, request[at:])
        line.pump(0.001)
    line.out += frame(DATA, END_STREAM, stream)
    line.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 26))
    while stream not in line.ended and not line.dead:
        line.pump(0.1)
    answer = pb.SubmitResponse.FromString(bytes(line.got.get(stream, b""))[5:])
    assert answer.job.id, "the large job was not accepted"
    return sock, answer.job.id


def watches(place: str, count: int) -> Iterator[None]:
    """Watches of a job of 100,000 items, all of them read."""
    from ktask.v1 import jobs_pb2 as pb

    held, job = large_job(place)
    request = message(pb.WatchRequest(id=job).SerializeToString())
    made = connections(place, 4, window=(1 << 31) - 1)
    for one in made:
        one.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535))
        for _ in range(count // len(made)):
            one.open("/ktask.v1.Jobs/Watch", request=request, end=True)
    while held:
        for one in made:
            one.got.clear()
            one.pump(0.002)
        yield


def unread(method: str, function: str = "file.crc32", items: int = 100_000, **args: Any) -> Attack:
    """Answers of a large job that nobody reads: the window is 0."""

    def attack(place: str, count: int) -> Iterator[None]:
        from ktask.v1 import jobs_pb2 as pb

        held, job = large_job(place, function, items, **args)
        request = message(pb.GetRequest(id=job).SerializeToString())
        (one,) = connections(place, 1, window=0)
        while held:
            for _ in range(count):
                one.open(f"/ktask.v1.Jobs/{method}", request=request, end=True)
            for _ in range(300):
                one.pump(0.01)
                yield
            if one.dead:
                (one,) = connections(place, 1, window=0)

    return attack


def halves(place: str, count: int) -> Iterator[None]:
    """Requests of nearly 4 MiB whose last byte never comes, 100 on each connection."""
    body = message(b"x" * (HALF_BYTES - 1), claim=HALF_BYTES)
    made = connections(place, max(count // 100, 1))
    sent = {(one, one.open("/ktask.v1.Jobs/Submit")): 0 for one in made for _ in range(min(count, 100))}
    while True:
        for (one, stream), at in sent.items():
            if not one.full and at < len(body):
                sent[one, stream] = at + one.push(stream, body[at : at + FRAME_BYTES])
        for one in made:
            one.pump(0.001)
        yield


def queue(place: str, count: int) -> Iterator[None]:
    """Jobs with the most ranges allowed, until one is refused; then nothing more."""
    from ktask.v1 import jobs_pb2 as pb

    ranges = [pb.Range(start=4 * i, length=1) for i in range(4096)]
    spec = pb.JobSpec(function="selftest.spin", ranges=ranges, labels={str(i): "x" * 250 for i in range(16)})
    spec.arg.update({"ms": 200})
    request = message(pb.SubmitRequest(spec=spec).SerializeToString())
    one = Connection(place, window=(1 << 31) - 1)
    one.out += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535))
    while not one.dead:
        stream, at = one.open("/ktask.v1.Jobs/Submit"), 0
        while at < len(request) and not one.dead:
            at += one.push(stream, request[at:])
            one.pump(0.001)
        one.out += frame(DATA, END_STREAM, stream)
        while stream not in one.ended and not one.dead:
            one.pump(0.1)
        if not one.got.pop(stream, None):
            return
        yield


def cancel_all(place: str) -> None:
    """Cancel the jobs of an earlier attack, which would fill the account from the start."""
    from ktask.v1 import jobs_pb2 as pb

    one, unended = Connection(place), [pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING]
    request = pb.ListRequest(page_size=1000, states=unended).SerializeToString()
    while jobs := pb.ListResponse.FromString(one.call("/ktask.v1.Jobs/List", request)).jobs:
        for job in jobs:
            one.call("/ktask.v1.Jobs/Cancel", pb.CancelRequest(id=job.id).SerializeToString())


def everything(place: str, count: int) -> Iterator[None]:
    """All kinds of memory of one account at the same time: results, jobs, answers, requests."""
    cancel_all(place)
    parts = [ATTACKS[kind](place, count) for kind in ("unread", "unread-results")]
    for part in parts:
        next(part)  # these need a job of their own, which must be accepted
    yield from queue(place, count)
    parts.append(halves(place, 500))
    while True:
        for part in parts:
            next(part)
        yield


def mixture(place: str, count: int) -> Iterator[None]:
    """A bit of everything at the same time."""
    parts = [attack(place, max(count // 4, 1)) for attack in (*FLOODS, halves, lists)]
    while True:
        for part in parts:
            next(part)
        yield


def computing(place: str, count: int) -> Iterator[None]:
    """No attack: each round uses `count` ms of CPU time, as a round of a mixture does."""
    while True:
        end_s = time.thread_time() + count / 1000
        while time.thread_time() < end_s:
            pass
        yield


pings = frames(b"".join(frame(PING, 0, 0, bytes(8)) for _ in range(200)))
settings = frames(frame(SETTINGS, 0, 0) * 300)
unknown = frames(frame(UNKNOWN, 0, 0) * 1000)
FLOODS = (resets, pings, settings, unknown, reflection)

ATTACKS: dict[str, Attack] = {
    "resets": resets,
    "pings": pings,
    "settings": settings,
    "unknown": unknown,
    "reflection": reflection,
    "lists": lists,
    "watches": watches,
    "unread": unread("Get"),
    "unread-results": unread("Watch", "text.search", 600, pattern="a", show="lines", limit=1000),
    "halves": halves,
    "mixture": mixture,
    "computing": computing,
    "queue": queue,
    "everything": everything,
}


def attack_as(uid: int, place: str, name: str, count: int, rest_s: float) -> None:
    """Attack as this uid, forever. Others must not notice merely its own use of CPU."""
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    begun = False
    while True:
        with contextlib.suppress(OSError):
            for _ in ATTACKS[name](place, count):
                if not begun:
                    begun = True
                    os.write(1, b"begun\n")
                time.sleep(rest_s)
        time.sleep(0.05)


def main(place: str, name: str, count: str, *uids: str) -> None:
    """Attack until standard input ends; one line "begun" for each uid, "ended" for one that broke off."""
    # Loaded once and not in each child: 70 interpreters that load it are no attack on the daemon.
    import ktask.v1.jobs_pb2  # noqa: F401

    children = []
    for uid in uids:
        pid = os.fork()
        if not pid:
            try:
                attack_as(int(uid), place, name, int(count), REST_S * len(uids))
            finally:
                os.write(1, b"ended\n")  # so that nobody waits for it to begin
                os._exit(1)
        children.append(pid)
    sys.stdin.read()
    for pid in children:
        os.kill(pid, 9)
    for pid in children:
        os.waitpid(pid, 0)
