"""Attacks of hostile clients, in rounds: each goes on as long as its next round is requested."""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
import secrets
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
from ktask.v1 import handoff
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import SEQPACKET, dialled, keeper_of, limit_with_room
from tests.hostile.wire import PREFACE, SETTINGS, drained, garbage, pushed
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    handed_over,
    memory,
    spin,
    wait_ended,
)
from tests.support.users import OtherUsers

AT_ONCE = 500
"""Limit of calls at the same time on one connection."""

CONNECTIONS = 490
"""Slightly fewer than the limit of one uid."""

HANDOFFS = 500
"""The limit of one uid."""


@dataclass(frozen=True)
class Scene:
    """The daemon to attack, and a connection for looking at it."""

    daemon: Daemon
    stubs: Stubs
    good_call: bytes
    """All bytes of one Run that succeeds."""
    run_as: OtherUsers | None = None
    """For attacks by other uids."""


Attack = Callable[[Scene], Iterator[None]]


def batched(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(things)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def all_of(method: Any, requests: Iterable[Any]) -> list[Any]:
    """Make many calls, at most as many at the same time as one connection may have."""
    return [
        future.result()
        for some in batched(requests, AT_ONCE)
        for future in [method.future(request) for request in some]
    ]


def silence(scene: Scene) -> Iterator[None]:
    """Connections on both sockets that send nothing, or half a preface."""
    while True:
        with ExitStack() as stack:
            for i in range(150):
                stack.enter_context(dialled(scene.daemon.handoff, SEQPACKET))
                sock = stack.enter_context(dialled(scene.daemon.socket))
                if i % 2:
                    sock.send(PREFACE[: i % len(PREFACE)])
            for _ in range(30):
                time.sleep(0.01)
                yield


def garbage_on_grpc(scene: Scene) -> Iterator[None]:
    for seed in itertools.count():
        for data in garbage(random.Random(seed)):
            with dialled(scene.daemon.socket) as sock:
                pushed(sock, data)
                drained(sock)
            yield


def a_million_bytes(scene: Scene) -> Iterator[None]:
    noise = random.Random(7).randbytes(1_000_000)
    for data in itertools.cycle((noise, PREFACE + SETTINGS + noise)):
        with dialled(scene.daemon.socket) as sock:
            pushed(sock, data)
        yield


def garbage_on_handoff(scene: Scene) -> Iterator[None]:
    rng = random.Random(11)
    good = handoff.encode_request(handoff.Hand(1, (0,)))
    with memory(1) as fd:
        for i in itertools.count():
            data = rng.randbytes(rng.choice((1, 11, 12, 13, 600, 60_000)))
            if i % 3 == 0:
                mutated = bytearray(good)
                mutated[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
                data = bytes(mutated)
            with dialled(scene.daemon.handoff, SEQPACKET) as sock:
                socket.send_fds(sock, [data], [fd] * rng.randrange(0, 20))
                sock.recv(handoff.REPLY_BYTES_MAX)
            yield


def closing_in_a_call(scene: Scene) -> Iterator[None]:
    """Closing at every byte of a call."""
    while True:
        for length in range(len(scene.good_call) + 1):
            with dialled(scene.daemon.socket) as sock:
                pushed(sock, scene.good_call[:length])
                if length % 3 == 1:
                    sock.shutdown(socket.SHUT_WR)
                elif length % 3 == 2:
                    sock.recv(1) if length else None
            yield


def closing_in_a_hand(scene: Scene) -> Iterator[None]:
    """Closing at every byte of a HAND."""
    request = handoff.encode_request(handoff.Hand(1, (handoff.OWN_OFFSET,) * 3))
    with memory(4096) as fd:
        while True:
            for length in range(1, len(request) + 1):
                for reads in (True, False):
                    with dialled(scene.daemon.handoff, SEQPACKET) as sock:
                        socket.send_fds(sock, [request[:length]], [fd] * 3)
                        if reads:
                            sock.recv(handoff.REPLY_BYTES_MAX)
                    yield


def connections_with_calls(scene: Scene) -> Iterator[None]:
    """As many connections as a uid may have, each with a call right away, again and again."""
    while True:
        with ExitStack() as stack:
            socks = [stack.enter_context(dialled(scene.daemon.socket)) for _ in range(CONNECTIONS)]
            for sock in socks:
                pushed(sock, scene.good_call)
            for sock in socks:
                with contextlib.suppress(ConnectionResetError):
                    sock.recv(65536)
                yield


def connections_refused(scene: Scene) -> Iterator[None]:
    """All connections of the uid in use, and constant attempts to get more."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(dialled(scene.daemon.socket))
        while True:
            with ExitStack() as more:
                for _ in range(20):
                    with contextlib.suppress(BlockingIOError):  # the kernel's queue is full
                        more.enter_context(dialled(scene.daemon.socket))
            yield


def handoffs_refused(scene: Scene) -> Iterator[None]:
    """The same on the handoff socket."""
    with ExitStack() as stack:
        for _ in range(HANDOFFS):
            stack.enter_context(dialled(scene.daemon.handoff, SEQPACKET))
        while True:
            with (
                contextlib.suppress(BlockingIOError, TimeoutError),
                dialled(scene.daemon.handoff, SEQPACKET) as sock,
            ):
                sock.settimeout(0.1)
                sock.recv(handoff.REPLY_BYTES_MAX)
            yield


def queued_jobs(scene: Scene) -> Iterator[None]:
    """Detached jobs up to the limit, cancelled again."""
    submit = pb.SubmitRequest(spec=spin(1, 200, labels={"of": "many"}))
    with connected(scene.daemon.socket) as stubs:
        while True:
            ids: list[str] = []
            try:
                for _ in range(9_500 // AT_ONCE):
                    answers = all_of(stubs.jobs.Submit, itertools.repeat(submit, AT_ONCE))
                    ids += [answer.job.id for answer in answers]
                    yield
            finally:
                for some in batched(ids, AT_ONCE):
                    all_of(stubs.jobs.Cancel, (pb.CancelRequest(id=one) for one in some))
            yield


def unread_watch(scene: Scene) -> Iterator[None]:
    """Watches of a large job that nobody reads."""
    with (
        memory(64) as fd,
        handed_over(scene.daemon.handoff, fd) as (handle,),
        connected(scene.daemon.socket) as slow,
    ):
        items = [pb.Source(handle=handle)] * 3_000
        crc = pb.JobSpec(function="file.crc32", items=items)
        while True:
            job = slow.jobs.Submit(pb.SubmitRequest(spec=crc)).job
            watches = [slow.jobs.Watch(pb.WatchRequest(id=job.id)) for _ in range(10)]
            for _ in range(50):
                time.sleep(0.01)
                yield
            for watch in watches:
                watch.cancel()


def vanishing_waiters(scene: Scene) -> Iterator[None]:
    """Callers that go away while their job runs."""
    while True:
        name = uuid.uuid4().hex
        with connected(scene.daemon.socket) as gone:
            call = gone.jobs.Run.future(pb.RunRequest(spec=spin(10**6, 1, request_id=name)))
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                with contextlib.suppress(grpc.RpcError):
                    job = scene.stubs.jobs.Get(pb.GetRequest(request_id=name)).job
                    break
            call.cancel()
        wait_ended(scene.stubs.jobs, job.id)
        yield


def guessed_handles(scene: Scene) -> Iterator[None]:
    with memory(4096) as fd, handed_over(scene.daemon.handoff, fd) as (handle,):
        for i in itertools.count():
            near = handle[: i % 32] + format(int(handle[i % 32], 16) ^ 1, "x") + handle[i % 32 + 1 :]
            for guess in (near, handle.upper() + "x", secrets.token_hex(16)):
                crc = pb.JobSpec(function="file.crc32", sources={"data": pb.Source(handle=guess)})
                with contextlib.suppress(grpc.RpcError):
                    scene.stubs.jobs.Run(pb.RunRequest(spec=crc))
            yield


def flood_of_descriptors(scene: Scene) -> Iterator[None]:
    request = handoff.encode_request(handoff.Hand(1, (0,) * 16))
    with dialled(scene.daemon.handoff, SEQPACKET) as sock, memory(1) as fd:
        while True:
            socket.send_fds(sock, [request], [fd] * 16)
            sock.recv(handoff.REPLY_BYTES_MAX)
            yield


def unread_flood_of_descriptors(scene: Scene) -> Iterator[None]:
    request = handoff.encode_request(handoff.Hand(1, (0,) * 16))
    with memory(1) as fd:
        while True:
            with dialled(scene.daemon.handoff, SEQPACKET) as sock:
                sock.setblocking(False)
                for _ in range(200):
                    with contextlib.suppress(BlockingIOError):
                        socket.send_fds(sock, [request], [fd] * 16)
                    time.sleep(0.001)
                    yield


def cut_descriptors(scene: Scene) -> Iterator[None]:
    """MSG_CTRUNC: the keeper has no room for the descriptors of a message."""
    request = handoff.encode_request(handoff.Hand(5, (0,) * 16))
    with memory(1) as fd, dialled(scene.daemon.handoff, SEQPACKET) as first:
        keeper = keeper_of(scene.daemon, first)
        limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (limit_with_room(keeper, 6), limits[1]))
        try:
            while True:
                with dialled(scene.daemon.handoff, SEQPACKET) as sock:
                    socket.send_fds(sock, [request], [fd] * 16)
                    with contextlib.suppress(ConnectionResetError):
                        sock.recv(handoff.REPLY_BYTES_MAX)
                yield
        finally:
            resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)


def own_loop(scene: Scene) -> Iterator[None]:
    """No attack: the attacker's process only computes."""
    while True:
        sum(range(20_000))
        yield


ATTACKS: Mapping[str, Attack] = {
    "(the attacker computes for itself)": own_loop,
    "300 silent connections": silence,
    "garbage on the gRPC socket": garbage_on_grpc,
    "a million bytes of garbage": a_million_bytes,
    "garbage on the handoff socket": garbage_on_handoff,
    "closing at every byte of a call": closing_in_a_call,
    "closing at every byte of a HAND": closing_in_a_hand,
    "490 connections, a call on each": connections_with_calls,
    "more connections than may be": connections_refused,
    "more handoffs than may be": handoffs_refused,
    "10,000 queued jobs": queued_jobs,
    "watchers that do not read": unread_watch,
    "waiters that vanish": vanishing_waiters,
    "guessed handles": guessed_handles,
    "a flood of descriptors": flood_of_descriptors,
    "a flood, replies not read": unread_flood_of_descriptors,
    "descriptors that arrive cut": cut_descriptors,
}
