"""The handoff door end to end: real keepers, real sockets, well and badly behaved clients."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import socket
from pathlib import Path

import pytest
from ktask.v1 import handoff
from ktask.v1.handoff import Drop, Dropped, Hand, Handles, Refused

from ktaskd.door.admission.meter import DEBT_MAX_S, Meter
from ktaskd.host.sockets.unixsock import FDS_PER_MESSAGE_MAX
from ktaskd.model.source import SourceKind
from tests.door.door_with_keepers import UID, descriptors_of, door_with_keepers, holds_memory, run, until


def test_descriptors_become_handles_with_facts(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            reply = await client.hand(fd, fd, flags=(0, handoff.OWN_OFFSET))
            assert isinstance(reply, Handles)
            assert reply.number == 7
            sources = [it.handles.resolve(handle, UID) for handle in reply.handles]
            assert [source.facts.own_offset for source in sources] == [False, True]
            assert {source.facts.kind for source in sources} == {SourceKind.MEMORY}
            assert all(os.path.samestat(os.fstat(source.fd), os.fstat(fd)) for source in sources)
            assert not any(os.get_inheritable(source.fd) for source in sources)
            client.send(handoff.encode_request(Drop(8, (reply.handles[0], "0" * 32))))
            assert await client.receive() == Dropped(8, 2)
            assert it.gone == [sources[0].sid]
            client.close()
            await until(lambda: it.door.connections == 0)
            assert len(it.gone) == 2

    run(test())


def test_as_many_descriptors_as_one_message_carries_become_handles_in_their_order(
    reachable_dir: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, handles_per_uid=handoff.FDS_MAX) as it:
            client = await it.client()
            with contextlib.ExitStack() as files:
                paths = [tmp_path / str(i) for i in range(handoff.FDS_MAX)]
                for i, path in enumerate(paths):
                    path.write_bytes(bytes(i))
                opened = [files.enter_context(path.open("rb")) for path in paths]
                reply = await client.hand(*(file.fileno() for file in opened))
            assert isinstance(reply, Handles)
            sources = [it.handles.resolve(handle, UID) for handle in reply.handles]
            assert [source.facts.size for source in sources] == list(range(handoff.FDS_MAX))
            assert [os.fstat(source.fd).st_size for source in sources] == list(range(handoff.FDS_MAX))
            client.send(handoff.encode_request(Drop(8, reply.handles)))
            assert await client.receive() == Dropped(8, handoff.FDS_MAX)
            assert it.gone == [source.sid for source in sources]
            client.close()

    run(test())


def test_the_right_descriptor_is_refused_and_none_is_kept(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            with open("/dev/null", "rb") as null:
                reply = await client.hand(fd, null.fileno(), fd)
            assert reply == Refused(
                7, "FD_UNSUITABLE", "descriptor 1: is a character device, wanted a regular file or memory", 1
            )
            assert len(it.handles) == 0
            assert not it.gone
            (pid,) = it.keepers.pids().values()
            await until(lambda: not holds_memory(pid))
            assert await client.handles(fd), "the connection goes on"
            client.close()

    run(test())


def test_handles_die_with_the_connection_but_not_what_a_job_holds(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            held, _idle = await client.handles(fd, fd)
            source = it.handles.resolve(held, UID)
            source.acquire()
            client.close()
            await until(lambda: len(it.handles) == 0)
            assert len(it.gone) == 1
            assert os.fstat(source.fd)
            source.release()
            assert it.gone[1:] == [source.sid]

    run(test())


def test_requests_sent_ahead_are_answered_in_order(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            for number in range(1, 9):
                client.send(handoff.encode_request(Hand(number, (0,))), [fd])
            assert [reply.number for reply in [await client.receive() for _ in range(8)] if reply] == [
                *range(1, 9)
            ]
            client.close()

    run(test())


def test_a_client_that_reads_nothing_is_not_read(reachable_dir: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            greedy, polite = await it.client(), await it.client()
            request = handoff.encode_request(Drop(1, ("0" * 32,)))
            sent = answered = 0
            quiet = False
            while not quiet:
                try:
                    greedy.send(request)
                    sent += 1
                except BlockingIOError:
                    # Full. After another client's turn it is still full.
                    before = sent
                    polite.send(request)
                    assert await polite.receive() == Dropped(1, 1)
                    try:
                        greedy.send(request)
                        sent += 1
                    except BlockingIOError:
                        quiet = sent == before
            while answered < sent:
                assert await greedy.receive() == Dropped(1, 1)
                answered += 1
            greedy.close()
            polite.close()

    run(test())


@pytest.mark.parametrize(
    ("data", "n_fds", "number"),
    [
        (b"\0", 0, 0),
        (b"GET / HTTP/1.1\r\n\r\n", 3, 0),
        (bytes(range(256)) * 2, 0, 0),
        (b"x" * 100_000, 2, 0),
        (handoff.encode_request(Hand(7, (0, 0)))[:-1], 2, 7),
        (handoff.encode_request(Hand(7, (0, 0))), 1, 7),
        (handoff.encode_request(Hand(7, (0, 0))), 0, 7),
        (handoff.encode_request(Hand(7, (0,) * 16)), FDS_PER_MESSAGE_MAX, 7),
        (handoff.encode_request(Drop(7, ("0" * 32,))), 1, 7),
        (handoff.encode_request(Hand(7, (0,))) + b"\0" * 600, 1, 7),
    ],
)
def test_what_is_no_request_ends_the_connection_and_nothing_else(
    reachable_dir: Path, fd: int, data: bytes, n_fds: int, number: int
) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            good, bad = await it.client(), await it.client()
            (handle,) = await good.handles(fd)
            bad.send(data, [fd] * n_fds)
            # Unread, this must not hide the answer.
            bad.send(handoff.encode_request(Hand(9, (0,))), [fd])
            reply = await bad.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (number, "PROTOCOL_INVALID")
            assert await bad.receive() is None
            await until(lambda: it.door.connections == 1)
            (pid,) = it.keepers.pids().values()
            await until(lambda: not holds_memory(pid))
            assert it.handles.resolve(handle, UID)
            assert await good.handles(fd)
            assert it.keepers.lost == 0
            good.close()
            bad.close()

    run(test())


def test_descriptors_that_do_not_fit_into_the_keeper_are_not_counted_on(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            await client.handles(fd)
            (pid,) = it.keepers.pids().values()
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (12, hard))
            reply = await client.hand(*[fd] * 16)
            assert isinstance(reply, Refused)
            assert reply.reason == "PROTOCOL_INVALID"
            assert "arrived truncated" in reply.message
            assert await client.receive() is None
            await until(lambda: it.door.connections == 0)
            await until(lambda: not holds_memory(pid))
            client.close()

    run(test())


def test_a_daemon_without_a_descriptor_left_says_so(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            await client.handles(fd)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            lowest_free = os.dup(fd)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                reply = await client.hand(fd)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (7, "QUOTA_FULL")
            assert len(it.handles) == 1
            assert await client.handles(fd)
            client.close()

    run(test())


def test_an_empty_message_ends_the_connection(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            client.send(b"", [fd])
            assert await client.receive() is None
            client.close()

    run(test())


def test_a_client_may_leave_at_any_point(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        choice = random.Random(1)
        async with door_with_keepers(reachable_dir) as it:
            for _ in range(60):
                client = await it.client()
                for _ in range(choice.randrange(4)):
                    client.send(handoff.encode_request(Hand(1, (0, 0))), [fd, fd])
                    if choice.random() < 0.3:
                        await client.receive()
                if choice.random() < 0.3:
                    client.sock.shutdown(choice.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
                client.close()
            await until(lambda: it.door.connections == 0)
            assert len(it.handles) == 0
            (pid,) = it.keepers.pids().values()
            await until(lambda: len(descriptors_of(pid)) <= 6)
            await until(lambda: not holds_memory(pid))
            assert it.keepers.lost == 0

    run(test())


def test_sockets_nested_in_the_queue_do_no_harm(reachable_dir: Path, fd: int) -> None:
    """Descriptors in flight inside a connection must not block the next connection."""

    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            bad = await it.client()
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(6)]
            for (left, _), (_, inner) in itertools.pairwise(pairs):
                try:
                    socket.send_fds(left, [b"x"], [inner.fileno()])
                except OSError:
                    break
            for _, right in pairs:
                try:
                    bad.send(handoff.encode_request(Hand(1, (0,))), [right.fileno()])
                except OSError:
                    break
            for pair in pairs:
                for sock in pair:
                    sock.close()
            good = await it.client()
            assert await good.handles(fd)
            good.close()
            bad.close()

    run(test())


@pytest.mark.parametrize("leaves", [False, True])
def test_request_when_it_is_not_the_users_turn_then_its_answer_waits(
    reachable_dir: Path, leaves: bool
) -> None:
    """The next request is read only after the answer, which slows down a client that asks without end."""

    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
            client = await it.client()
            client.send(handoff.encode_request(Drop(1, ("0" * 32,))))
            assert await client.receive() == Dropped(1, 1)
            user = it.door._turns.find(UID)
            account, now_s = it.door._turns._accounts[UID], it.door._turns.now()
            for meter in (account.pace, account.light):
                meter.charge(now_s, DEBT_MAX_S)
            client.send(handoff.encode_request(Drop(2, ("0" * 32,))))
            await until(lambda: len(user) == 1)
            if leaves:
                client.close()
                await until(lambda: not it.door.connections)
                assert (len(user), account.waiting) == (0, {})
                return
            account.pace = Meter()
            account._disarm()
            account._arm()
            assert await client.receive() == Dropped(2, 1)
            client.close()

    run(test())
