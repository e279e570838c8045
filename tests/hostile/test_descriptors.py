"""Handles and descriptors in hostile hands: guessed, replayed, flooded, cut."""

from __future__ import annotations

import contextlib
import resource
import secrets
import socket

import pytest
from ktask.v1 import handoff
from ktask.v1 import jobs_pb2 as pb

from tests.hostile.attacked_daemon import (
    HANDLES,
    SEQPACKET,
    counters,
    dialled,
    fds_of,
    keeper_of,
    limit_with_room,
)
from tests.hostile.neighbour import Neighbour
from tests.support.real_daemon import (
    Daemon,
    Stubs,
    handed_over,
    memory,
    refused,
    spin,
    until,
    wait_ended,
    wait_state,
)

pytestmark = pytest.mark.usefixtures("nothing_is_left")

COUNTS = (16, handoff.FDS_MAX)
"""Descriptors in one message: some, and as many as the kernel passes on."""


def test_handles_when_guessed_or_replayed_then_not_found(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    with memory(4096) as fd:
        with handed_over(daemon.handoff, fd) as (old,):
            pass
        until(lambda: not counters(stubs)["handles"], "the handle is gone")
        with handed_over(daemon.handoff, fd) as (handle,), neighbour.beside("guessed handles"):
            near = [handle[:i] + format(int(handle[i], 16) ^ 1, "x") + handle[i + 1 :] for i in range(32)]
            odd = [handle.upper(), handle + " ", handle[:-1], "\0" * 32, "x" * 10_000]
            for guess in (old, *near, *odd, *(secrets.token_hex(16) for _ in range(100))):
                if guess == handle:
                    continue
                crc = pb.JobSpec(function="file.crc32", sources={"data": pb.Source(handle=guess)})
                refusal = refused(stubs.jobs.Run, pb.RunRequest(spec=crc))
                assert (refusal.code, refusal.reason) == ("NOT_FOUND", "HANDLE_UNKNOWN")


def test_descriptors_when_flooded_then_closed_again(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    request = handoff.encode_request(handoff.Hand(1, (0,) * 16))
    pid = daemon.process.pid
    with (
        dialled(daemon.handoff, SEQPACKET) as sock,
        memory(1) as fd,
        neighbour.beside("a flood of descriptors"),
    ):
        keeper = keeper_of(daemon, sock)
        before, before_keeper = fds_of(pid), fds_of(keeper)
        refusals = 0
        for _ in range(500):
            socket.send_fds(sock, [request], [fd] * 16)
            reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
            refusals += isinstance(reply, handoff.Refused) and reply.reason == "QUOTA_FULL"
        assert refusals == 500 - HANDLES // 16
        assert fds_of(pid) <= before + HANDLES + 4
        until(lambda: fds_of(keeper) <= before_keeper, "the keeper has closed all")
        assert counters(stubs)["handles"] == HANDLES


def test_descriptors_when_replies_are_not_read_then_bounded(
    daemon: Daemon, stubs: Stubs, neighbour: Neighbour
) -> None:
    request = handoff.encode_request(handoff.Hand(1, (0,) * 16))
    pid = daemon.process.pid
    with dialled(daemon.handoff, SEQPACKET) as sock, memory(1) as fd:
        before = fds_of(pid)
        sock.setblocking(False)
        with neighbour.beside("a flood of descriptors without reading"), contextlib.suppress(BlockingIOError):
            for _ in range(20_000):
                socket.send_fds(sock, [request], [fd] * 16)
        until(lambda: fds_of(pid) <= before + HANDLES + 4, "no more than the uid may have")


def test_descriptors_when_only_queued_jobs_hold_them_then_they_count(daemon: Daemon, stubs: Stubs) -> None:
    """Handing over, queueing and hanging up again and again does not accumulate descriptors."""
    jobs, refusals = [], 0
    blocker = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(10**6, 1, max_threads=1000))).job.id
    wait_state(stubs.jobs, blocker, "RUNNING")
    with memory(64) as fd:
        for _ in range(HANDLES // 16 + 5):
            with dialled(daemon.handoff, SEQPACKET) as sock:
                socket.send_fds(sock, [handoff.encode_request(handoff.Hand(1, (0,) * 16))], [fd] * 16)
                reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
                if isinstance(reply, handoff.Refused):
                    assert reply.reason == "QUOTA_FULL"
                    refusals += 1
                    continue
                assert isinstance(reply, handoff.Handles)
                items = [pb.Source(handle=handle) for handle in reply.handles]
                crc = pb.JobSpec(function="file.crc32", items=items)
                jobs.append(stubs.jobs.Submit(pb.SubmitRequest(spec=crc)).job.id)
    assert (len(jobs), refusals) == (HANDLES // 16, 5)
    for job in (blocker, *jobs):
        stubs.jobs.Cancel(pb.CancelRequest(id=job))
        wait_ended(stubs.jobs, job)


@pytest.mark.parametrize("count", COUNTS)
def test_descriptors_when_the_keeper_has_no_room_then_cut_is_seen_and_all_closed(
    daemon: Daemon, stubs: Stubs, count: int
) -> None:
    """MSG_CTRUNC: some of the descriptors of a message could not be received."""
    request = handoff.encode_request(handoff.Hand(5, (0,) * count))
    with dialled(daemon.handoff, SEQPACKET) as sock, memory(1) as fd:
        keeper = keeper_of(daemon, sock)
        before = fds_of(keeper)
        limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, (limit_with_room(keeper, 6), limits[1]))
        try:
            socket.send_fds(sock, [request], [fd] * count)
            reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
        finally:
            resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
        assert isinstance(reply, handoff.Refused)
        assert (reply.reason, reply.number) == ("PROTOCOL_INVALID", 5)
        assert "arrived truncated" in reply.message
        assert sock.recv(1) == b""
        until(lambda: fds_of(keeper) < before, "the keeper has closed all, and the connection")
    assert counters(stubs)["handles"] == 0


@pytest.mark.parametrize("count", COUNTS)
def test_descriptors_when_the_daemon_has_no_room_then_told_and_all_closed(
    daemon: Daemon, stubs: Stubs, count: int
) -> None:
    request = handoff.encode_request(handoff.Hand(5, (0,) * count))
    pid = daemon.process.pid
    with dialled(daemon.handoff, SEQPACKET) as sock, memory(1) as fd:
        until(lambda: counters(stubs)["handoff_connections"] == 1, "the connection is known")
        before = fds_of(pid)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit_with_room(pid, 4), limits[1]))
        try:
            socket.send_fds(sock, [request], [fd] * count)
            reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert isinstance(reply, handoff.Refused)
        assert (reply.reason, reply.number) == ("QUOTA_FULL", 5)
        until(lambda: fds_of(pid) <= before, "the daemon has closed all")
        socket.send_fds(sock, [request], [fd] * count)
        assert isinstance(handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX)), handoff.Handles)
