"""Clients that misbehave on both sockets; whoever is beside them works on.

Guards: I12
"""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from ktask.v1 import control_pb2, handoff
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import KEPT, SEQPACKET, STALL_S, counters, dialled, fds_of, keeper_of
from tests.hostile.attacks import CONNECTIONS, Scene, all_of, connections_with_calls
from tests.hostile.going import going
from tests.hostile.neighbour import Neighbour
from tests.hostile.wire import PREFACE, SETTINGS, drained, garbage, pushed, record_good_call
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    find_by_request,
    handed_over,
    memory,
    refusal_of,
    refused,
    spec,
    spin,
    until,
    wait_ended,
    wait_state,
)

pytestmark = pytest.mark.usefixtures("nothing_is_left")

# -- silence and garbage -----------------------------------------------------------


def test_silence_when_connections_say_nothing_then_others_work(daemon: Daemon, neighbour: Neighbour) -> None:
    with ExitStack() as stack, neighbour.beside("300 silent connections"):
        for i in range(150):
            stack.enter_context(dialled(daemon.handoff, SEQPACKET))
            sock = stack.enter_context(dialled(daemon.socket))
            if i % 2:
                sock.send(PREFACE[: i % len(PREFACE)])
        time.sleep(0.3)  # for the neighbour to have worked beside them


def test_garbage_when_sent_on_the_grpc_socket_then_only_that_connection_ends(
    daemon: Daemon, neighbour: Neighbour
) -> None:
    with neighbour.beside("garbage on the gRPC socket"):
        for data in garbage(random.Random(7)):
            with dialled(daemon.socket) as sock:
                pushed(sock, data)
                drained(sock)


def test_garbage_when_a_million_bytes_of_it_then_no_memory_is_taken(
    daemon: Daemon, neighbour: Neighbour
) -> None:
    daemon_process = psutil.Process(daemon.process.pid)
    before = daemon_process.memory_info().rss
    with neighbour.beside("a million bytes of garbage, 40 times"):
        for i in range(40):
            with dialled(daemon.socket) as sock:
                pushed(sock, (PREFACE + SETTINGS if i % 2 else b"") + random.Random(i).randbytes(1_000_000))
    grown = daemon_process.memory_info().rss - before
    assert grown < 30 << 20, f"grown by {grown >> 20} MiB"


def test_garbage_when_sent_on_the_handoff_socket_then_told_and_closed(
    daemon: Daemon, neighbour: Neighbour
) -> None:
    rng = random.Random(11)
    good = handoff.encode_request(handoff.Hand(1, (0,)))
    with neighbour.beside("garbage on the handoff socket"), memory(1) as fd:
        for i in range(150):
            data = rng.randbytes(rng.choice((1, 11, 12, 13, 600, 60_000)))
            if i % 3 == 0:
                mutated = bytearray(good)
                mutated[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
                data = bytes(mutated)
            with dialled(daemon.handoff, SEQPACKET) as sock:
                socket.send_fds(sock, [data], [fd] * rng.randrange(0, 20))
                reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
                if isinstance(reply, handoff.Refused):
                    assert reply.reason in ("PROTOCOL_INVALID", "FD_UNSUITABLE")
                    assert reply.reason != "PROTOCOL_INVALID" or sock.recv(1) == b""


# -- closing at every byte -----------------------------------------------------------


@pytest.fixture
def good_call(daemon: Daemon) -> bytes:
    """All bytes of one Run that succeeded."""
    return record_good_call(daemon)


def test_close_when_at_every_byte_of_a_call_then_nothing_is_left(
    daemon: Daemon, neighbour: Neighbour, good_call: bytes, stubs: Stubs
) -> None:
    assert good_call.startswith(PREFACE)
    accepted = counters(stubs)["jobs_accepted"]
    with neighbour.beside(f"closing at each of {len(good_call)} bytes of a call") as beside:
        for length in range(len(good_call) + 1):
            with dialled(daemon.socket) as sock:
                pushed(sock, good_call[:length])
                if length % 3 == 1:
                    sock.shutdown(socket.SHUT_WR)
                elif length % 3 == 2:
                    sock.recv(1) if length else None
    assert counters(stubs)["jobs_accepted"] >= accepted + beside.calls


@pytest.mark.parametrize("count", [3, 40])
def test_close_when_at_every_byte_of_a_hand_then_no_descriptor_is_left(
    daemon: Daemon, neighbour: Neighbour, count: int
) -> None:
    request = handoff.encode_request(handoff.Hand(1, (handoff.OWN_OFFSET,) * count))
    with dialled(daemon.handoff, SEQPACKET) as first, memory(4096) as fd:
        keeper = keeper_of(daemon, first)
        before = fds_of(keeper)
        with neighbour.beside("closing at every byte of a HAND"):
            for length in range(1, len(request) + 1):
                for reads in (True, False):
                    with dialled(daemon.handoff, SEQPACKET) as sock:
                        socket.send_fds(sock, [request[:length]], [fd] * count)
                        if reads:
                            reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
                            assert isinstance(reply, handoff.Handles) == (length == len(request))
        until(lambda: fds_of(keeper) <= before, "the keeper has closed all")


# -- many ----------------------------------------------------------------------------


def test_connections_when_500_at_once_then_each_is_served(
    daemon: Daemon, neighbour: Neighbour, good_call: bytes
) -> None:
    """The limit of one uid, less the test's own connections."""
    with ExitStack() as stack, neighbour.beside("490 connections, each with a call at once"):
        socks = [stack.enter_context(dialled(daemon.socket)) for _ in range(CONNECTIONS)]
        for sock in socks:
            pushed(sock, good_call)
        for sock in socks:
            assert sock.recv(65536), "an answer"
        time.sleep(0.5)  # all stay open; the burst itself is over after half a second


@pytest.mark.other_uid  # within one uid it is first come, first served
def test_connections_when_they_come_again_and_again_then_no_call_of_another_fails(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour, good_call: bytes
) -> None:
    """grpc refuses everybody's calls when a thousand wait, so that many must never wait at the same time."""
    scene = Scene(daemon, stubs, good_call)
    with going(connections_with_calls, scene) as attack:
        times = neighbour.times(3.0)
    assert attack.rounds > CONNECTIONS
    assert all(map(math.isfinite, times)), f"{times.count(math.inf)} of {len(times)} calls failed"


def test_connections_when_more_than_a_uid_may_have_then_closed_at_once(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    """A client that already has a connection works on; the rest of its uid waits for room."""
    with ExitStack() as stack, neighbour.beside("all connections of the uid taken"):
        while True:
            sock = stack.enter_context(dialled(daemon.socket))
            if not counters(stubs)["connections_refused"] and counters(stubs)["connections"] < 500:
                continue
            sock.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                if sock.recv(1) == b"":
                    break
    until(lambda: counters(stubs)["connections"] <= 3, "all are gone")


@contextmanager
def paused(stubs: Stubs) -> Iterator[None]:
    """No helper works in this block: jobs that nobody waits for stay in the queue, and take no CPU time."""
    stubs.control.SetMode(control_pb2.SetModeRequest(mode=control_pb2.MODE_PAUSED))
    try:
        yield
    finally:
        stubs.control.SetMode(control_pb2.SetModeRequest(mode=control_pb2.MODE_AUTO))


RANGES = 20
"""Of each of these jobs, so that some thousands of them take as much memory as many more that have one."""


def test_queue_when_thousands_of_detached_jobs_then_all_end_and_their_memory_is_back(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    """More than are kept; `python -m tests.hostile` has nearly as many as a uid may have."""
    process = psutil.Process(daemon.process.pid)
    ranges = [{"start": str(2 * i), "length": "1"} for i in range(RANGES)]
    job = spec("selftest.spin", arg={"ms": 200}, ranges=ranges, labels={"of": "many"})

    def flood(count: int) -> list[pb.SubmitResponse]:
        return all_of(stubs.jobs.Submit, itertools.repeat(pb.SubmitRequest(spec=job), count))

    def end(answers: list[pb.SubmitResponse]) -> None:
        all_of(stubs.jobs.Cancel, (pb.CancelRequest(id=answer.job.id) for answer in answers))

    def end_all(answers: list[pb.SubmitResponse]) -> None:
        end(answers)
        until(lambda: counters(stubs)["jobs_unended"] == 0, "all have ended")

    before = process.memory_info().rss
    with paused(stubs):
        answers = flood(KEPT)
        with neighbour.beside("thousands of detached jobs, some submitted and cancelled"):
            last = flood(500)
            top = process.memory_info().rss
            end(last)
        end_all(answers)
        first = process.memory_info().rss
        end_all(flood(500))
        second = process.memory_info().rss
    sizes = [size >> 20 for size in (before, top, first, second)]
    print("daemon: {} MiB before, {} with all jobs, {} after, {} after some more".format(*sizes))
    assert counters(stubs)["jobs_kept"] <= KEPT
    # Kept jobs and memory that the allocator does not give back remain; the jobs' own memory does not.
    assert second - first < (top - before) // 4


def test_queue_when_a_uid_has_as_many_as_it_may_then_refused(stubs: Stubs, place: Path) -> None:
    """The bound itself, with a small one."""
    from tests.support.real_daemon import running, write_config

    config = write_config(place.parent / "c", jobs={"queued_per_uid": 5}, workers={"user": "nobody"})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as own:
        jobs = [own.jobs.Submit(pb.SubmitRequest(spec=spin(10**6, 1))).job.id for _ in range(5)]
        refusal = refused(own.jobs.Submit, pb.SubmitRequest(spec=spin(1, 1)))
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_FULL")
        for job in jobs:
            own.jobs.Cancel(pb.CancelRequest(id=job))
            wait_ended(own.jobs, job)
        own.jobs.Run(pb.RunRequest(spec=spin(1, 1)))


# -- slow readers -----------------------------------------------------------------------


ITEMS = 30_000
SMALL_WINDOW = ("grpc.http2.bdp_probe", 0)
"""A client that reads no more ahead than HTTP/2's 64 KiB; otherwise gRPC itself reads some MiB for it."""


@contextmanager
def sums_of(stubs: Stubs, handle: str, count: int) -> Iterator[pb.Job]:
    """A job that sums one file again and again, and ends with the block at the latest.

    Somebody waits for it: a job that nobody waits for has only what a busy machine leaves to helpers.
    """
    wanted = pb.JobSpec(
        function="file.crc32", items=[pb.Source(handle=handle)] * count, request_id=uuid.uuid4().hex
    )
    run = stubs.jobs.Run.future(pb.RunRequest(spec=wanted))
    try:
        yield find_by_request(stubs.jobs, wanted.request_id)
    finally:
        run.cancel()


@pytest.mark.other_uid  # otherwise the neighbour's jobs would displace the watched one
def test_watch_when_its_reader_stops_then_bounded_and_cut_with_a_status(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    process = psutil.Process(daemon.process.pid)
    with (
        memory(64) as fd,
        handed_over(daemon.handoff, fd) as (handle,),
        connected(daemon.socket, SMALL_WINDOW) as slow,
    ):
        before = process.memory_info().rss
        with sums_of(stubs, handle, ITEMS) as job, neighbour.beside("a watcher that does not read"):
            watch = slow.jobs.Watch(pb.WatchRequest(id=job.id))
            wait_ended(stubs.jobs, job.id)
            time.sleep(2 * STALL_S)  # longer than the limit of a stalled stream
        grown = process.memory_info().rss - before
        print(f"daemon grown by {grown >> 20} MiB with {ITEMS} results that are not read")
        assert grown < 150 << 20
        seen: list[int] = []
        sequence = 0
        with pytest.raises(grpc.RpcError) as caught:
            for message in watch:
                seen += [result.index for result in message.results]
                sequence = message.sequence
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "WATCH_TOO_SLOW")
        resumed = list(slow.jobs.Watch(pb.WatchRequest(id=job.id, after_sequence=sequence)))
        assert resumed[-1].final
        rest = [result.index for message in resumed for result in message.results]
        assert len(set(seen) | set(rest)) >= len(rest)


def test_watch_when_its_reader_goes_on_in_time_then_complete(daemon: Daemon, stubs: Stubs) -> None:
    with (
        memory(64) as fd,
        handed_over(daemon.handoff, fd) as (handle,),
        sums_of(stubs, handle, 3000) as job,
        connected(daemon.socket) as slow,
    ):
        indexes = []
        for message in slow.jobs.Watch(pb.WatchRequest(id=job.id), timeout=PATIENCE_S):
            time.sleep(0.05)  # slow, but it reads
            indexes += [result.index for result in message.results]
        assert indexes == list(range(3000))
        assert message.final


# -- waiters that vanish ------------------------------------------------------------------

VANISHING = """
import sys
from pathlib import Path
from tests.support.real_daemon import connected, spin
from ktask.v1 import jobs_pb2 as pb
with connected(Path(sys.argv[1])) as stubs:
    stubs.jobs.Submit(pb.SubmitRequest(spec=spin(20, 5, request_id=sys.argv[2] + "-detached")))
    stubs.jobs.Run(pb.RunRequest(spec=spin(10**6, 1, request_id=sys.argv[2])))
"""


def test_waiter_when_killed_then_its_job_is_cancelled_and_detached_ones_go_on(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    name = uuid.uuid4().hex
    with neighbour.beside("a waiter that vanishes"):
        waiter = subprocess.Popen([sys.executable, "-c", VANISHING, daemon.socket, name])
        job = find_by_request(stubs.jobs, name)
        wait_state(stubs.jobs, job.id, "RUNNING")
        waiter.send_signal(signal.SIGKILL)
        waiter.wait()
        assert wait_ended(stubs.jobs, job.id).error.reason == "CLIENT_GONE"
        detached = find_by_request(stubs.jobs, name + "-detached")
        assert wait_ended(stubs.jobs, detached.id).state == pb.JOB_STATE_SUCCEEDED
