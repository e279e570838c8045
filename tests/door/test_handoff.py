"""The handoff door end to end: real keepers, real sockets, well and badly behaved clients."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import random
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import handoff
from ktask.v1.handoff import Drop, Dropped, Hand, Handles, Refused

from ktaskd.door.keepers import STUCK_PER_UID_MAX
from ktaskd.host.unixsock import FDS_PER_MESSAGE_MAX
from ktaskd.model.errors import (
    FdUnsuitable,
    HandleUnknown,
    KeeperSilent,
    KtaskError,
    PathNotFound,
    SourceInvalid,
)
from ktaskd.model.function import Access
from ktaskd.model.source import SourceKind
from tests.door.house import UID, as_uid, house, memory, run, until


@pytest.fixture
def fd() -> Any:
    fd = memory()
    yield fd
    os.close(fd)


def descriptors_of(pid: int) -> list[str]:
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links


def holds_memory(pid: int) -> bool:
    return any("memfd" in link for link in descriptors_of(pid))


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie, which somebody else is to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_descriptors_become_handles_with_facts(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
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


def test_a_keeper_is_small_shut_and_alone(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
            client = await it.client()
            await client.handles(fd)
            (pid,) = it.keepers.pids().values()
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert "cygrpc" not in maps
            assert "_message.abi3" not in maps
            assert "_asyncio" not in maps
            links = descriptors_of(pid)
            assert not any("memfd" in link for link in links), "what was passed on is still held"
            assert sum(link.startswith("socket:") for link in links) == 2
            if UID:
                assert os.stat(f"/proc/{pid}/environ").st_uid == 0
            client.close()

    run(test())


def test_the_right_descriptor_is_refused_and_none_is_kept(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
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
        async with house(reachable_dir) as it:
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
        async with house(reachable_dir) as it:
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
        async with house(reachable_dir) as it:
            greedy, polite = await it.client(), await it.client()
            request = handoff.encode_request(Drop(1, ("0" * 32,)))
            sent = answered = 0
            quiet = False
            while not quiet:
                try:
                    greedy.send(request)
                    sent += 1
                except BlockingIOError:
                    # Full: another client's turn, after which nothing has moved.
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
        (os.urandom(600), 0, 0),
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
        async with house(reachable_dir) as it:
            good, bad = await it.client(), await it.client()
            (handle,) = await good.handles(fd)
            bad.send(data, [fd] * n_fds)
            # Left unread, this must not hide the answer.
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
        async with house(reachable_dir) as it:
            client = await it.client()
            await client.handles(fd)
            (pid,) = it.keepers.pids().values()
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (12, hard))
            reply = await client.hand(*[fd] * 16)
            assert isinstance(reply, Refused)
            assert reply.reason == "PROTOCOL_INVALID"
            assert "arrived cut" in reply.message
            assert await client.receive() is None
            await until(lambda: it.door.connections == 0)
            await until(lambda: not holds_memory(pid))
            client.close()

    run(test())


def test_a_daemon_without_a_descriptor_left_says_so(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
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
        async with house(reachable_dir) as it:
            client = await it.client()
            client.send(b"", [fd])
            assert await client.receive() is None
            client.close()

    run(test())


def test_a_client_may_leave_at_any_point(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        choice = random.Random(1)
        async with house(reachable_dir) as it:
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
    """What is in flight inside a connection must not stop the next one."""

    async def test() -> None:
        async with house(reachable_dir) as it:
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


def test_caps_are_told_and_counted(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir, handles_per_uid=3, per_uid=2) as it:
            clients = [await it.client() for _ in range(2)]
            assert await clients[0].handles(fd, fd)
            reply = await clients[1].hand(fd, fd)
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason, reply.index) == (7, "QUOTA_FULL", -1)
            assert len(it.handles) == 2
            assert await clients[1].handles(fd)
            extra = await it.client()
            extra.send(handoff.encode_request(Hand(1, (0,))), [fd])
            reply = await extra.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (0, "QUOTA_FULL")
            assert await extra.receive() is None
            assert (it.door.refused, it.door.connections) == (1, 2)
            for client in (*clients, extra):
                client.close()

    run(test())


def test_a_total_cap_holds_over_uids(reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with house(reachable_dir, total=2) as it:
            clients = [await it.client() for _ in range(2)]
            await until(lambda: it.door.connections == 2)
            as_uid(monkeypatch, UID + 1)
            extra = await it.client()
            reply = await extra.receive()
            assert isinstance(reply, Refused)
            assert reply.reason == "QUOTA_FULL"
            for client in (*clients, extra):
                client.close()

    run(test())


def test_a_keeper_that_has_nothing_to_do_ends_and_the_next_one_starts(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with house(reachable_dir, linger_s=0.05) as it:
            client = await it.client()
            await client.handles(fd)
            (first,) = it.keepers.pids().values()
            client.close()
            await until(lambda: not it.keepers.pids())
            await until(lambda: not os.path.exists(f"/proc/{first}"))
            again = await it.client()
            assert await again.handles(fd)
            assert it.keepers.lost == 0
            again.close()

    run(test())


def test_each_uid_has_a_keeper_of_its_own(
    reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
            mine = await it.client()
            (handle,) = await mine.handles(fd)
            as_uid(monkeypatch, UID + 1)
            theirs = await it.client()
            (foreign,) = await theirs.handles(fd)
            assert set(it.keepers.pids()) == {UID, UID + 1}
            for wanted, uid in ((handle, UID + 1), (foreign, UID), (foreign, 0)):
                with pytest.raises(HandleUnknown):
                    it.handles.resolve(wanted, uid)
            mine.close()
            theirs.close()

    run(test())


def test_the_number_of_keepers_is_capped_and_a_resting_one_makes_room(
    reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with house(reachable_dir, total=50) as it:
            it.keepers.total = 1
            first = await it.client()
            await first.handles(fd)
            as_uid(monkeypatch, UID + 1)
            second = await it.client()
            reply = await second.receive()
            assert isinstance(reply, Refused)
            assert reply.reason == "QUOTA_FULL"
            first.close()
            await until(lambda: it.door.connections == 0)
            third = await it.client()
            assert await third.handles(fd)
            second.close()
            third.close()

    run(test())


def test_a_killed_keeper_costs_its_handles_and_the_next_connection_gets_another(
    reachable_dir: Path, fd: int
) -> None:
    async def test() -> None:
        async with house(reachable_dir) as it:
            client = await it.client()
            held, _idle = await client.handles(fd, fd)
            source = it.handles.resolve(held, UID)
            source.acquire()
            (pid,) = it.keepers.pids().values()
            os.kill(pid, signal.SIGKILL)
            reply = await client.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (0, "KEEPER_SILENT")
            assert await client.receive() is None
            assert len(it.handles) == 0
            assert os.fstat(source.fd)
            again = await it.client()
            assert await again.handles(fd)
            assert it.keepers.lost == 1
            source.release()
            client.close()
            again.close()

    run(test())


def test_a_stopped_keeper_is_given_up_and_other_uids_do_not_notice(
    reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with house(reachable_dir, silence_s=1.5) as it:
            client = await it.client()
            await client.handles(fd)
            (pid,) = it.keepers.pids().values()
            as_uid(monkeypatch, UID + 1)
            other = await it.client()
            await other.handles(fd)
            as_uid(monkeypatch, UID)
            os.kill(pid, signal.SIGSTOP)
            late = await it.client()
            late.send(handoff.encode_request(Hand(9, (0,))), [fd])
            await until(lambda: it.door.connections == 3)
            assert await other.handles(fd), "answered while the keeper of the first uid hangs"
            assert it.keepers.lost == 0
            for victim in (client, late):
                reply = await victim.receive()
                assert isinstance(reply, Refused)
                assert reply.reason == "KEEPER_SILENT"
                assert await victim.receive() is None
            assert it.keepers.lost == 1
            assert await other.handles(fd)
            await until(lambda: not os.path.exists(f"/proc/{pid}"))
            again = await it.client()
            assert await again.handles(fd)
            for one in (client, late, other, again):
                one.close()

    run(test())


def test_paths_are_opened_with_the_access_asked_for(reachable_dir: Path) -> None:
    path = reachable_dir / "data"
    path.write_bytes(b"12345")

    async def test() -> None:
        async with house(reachable_dir / "run") as it:
            for access in (Access.READ, Access.WRITE, Access.READ_WRITE):
                source = await it.keepers.open_path(str(path), access)
                assert (source.facts.access, source.facts.size, source.uid) == (access, 5, UID)
                assert source.facts.own_offset
                assert not source.facts.append
                source.release()
                assert it.gone.pop() == source.sid
            assert set(it.keepers.pids()) == {UID}

    run(test())


def refused_paths(place: Path) -> dict[str, tuple[type[KtaskError], str]]:
    (place / "link").symlink_to(place / "file")
    (place / "file").touch()
    os.mkfifo(place / "fifo")
    return {
        f"{place}/none": (PathNotFound, "No such file"),
        f"{place}/file/below": (PathNotFound, "Not a directory"),
        f"{place}/link": (FdUnsuitable, "symbolic link"),
        f"{place}/fifo": (FdUnsuitable, "pipe"),
        f"{place}": (FdUnsuitable, "directory"),
        "/dev/null": (FdUnsuitable, "character device"),
        "/proc/self/mem": (FdUnsuitable, '"proc"'),
        "/sys/kernel/uevent_seqnum": (FdUnsuitable, '"sysfs"'),
        "relative": (SourceInvalid, "absolute"),
        "": (SourceInvalid, "absolute"),
        "/nul\0byte": (SourceInvalid, "NUL"),
        "/" + "x" * 4096: (SourceInvalid, "4097 bytes"),
        "/" + "x" * 300: (FdUnsuitable, "too long"),
        "/" + "\1" * 4095: (FdUnsuitable, r"\.\.\..*too long"),
        "/\ud800": (SourceInvalid, "characters"),
    }


def test_what_cannot_be_opened_is_refused_clearly(reachable_dir: Path) -> None:
    async def test() -> None:
        async with house(reachable_dir / "run") as it:
            for path, (error, says) in refused_paths(reachable_dir).items():
                with pytest.raises(error, match=says):
                    await it.keepers.open_path(path, Access.READ)
            assert it.keepers.lost == 0

    run(test())


def test_a_lease_is_not_waited_for(reachable_dir: Path) -> None:
    async def test() -> None:
        async with house(reachable_dir / "run") as it:
            with open(reachable_dir / "leased", "w") as file:
                # The one who holds a lease is told by SIGIO when it is broken.
                before = signal.signal(signal.SIGIO, signal.SIG_IGN)
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                try:
                    with pytest.raises(FdUnsuitable, match="lease"):
                        await it.keepers.open_path(file.name, Access.READ)
                finally:
                    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                    signal.signal(signal.SIGIO, before)

    run(test())


@pytest.mark.other_uid
def test_a_daemon_without_rights_opens_only_what_it_may(
    reachable_dir: Path, run_as: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Its keepers cannot be looked into either, and still see what they need of themselves."""
    (reachable_dir / "open").write_text("1234")
    (reachable_dir / "secret").touch(mode=0o600)
    code = (
        "import asyncio, os, sys\n"
        "from ktaskd.door.keepers import Keepers\n"
        "from ktaskd.model.errors import NotAllowed\n"
        "from ktaskd.model.function import Access\n"
        "async def main():\n"
        "    keepers = Keepers()\n"
        f"    source = await keepers.open_path('{reachable_dir}/open', Access.READ)\n"
        "    print(source.facts.size, os.stat(f'/proc/{keepers.pids()[4711]}/environ').st_uid)\n"
        "    source.release()\n"
        "    for name, access in (('secret', Access.READ), ('open', Access.WRITE)):\n"
        "        try:\n"
        f"            await keepers.open_path('{reachable_dir}/' + name, access)\n"
        "        except NotAllowed as error:\n"
        "            print(error)\n"
        "    await keepers.close()\n"
        "asyncio.run(main())\n"
    )
    done = run_as(4711, code)
    assert done.stdout.splitlines() == [
        "4 0",
        f'path "{reachable_dir}/secret": the daemon (uid 4711) may not read it',
        f'path "{reachable_dir}/open": the daemon (uid 4711) may not write it',
    ], done.stderr


def test_an_open_that_nobody_waits_for_any_more_leaks_nothing(reachable_dir: Path) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with house(reachable_dir / "run") as it:
            path = str(reachable_dir / "file")
            for turns in range(30):
                opening = asyncio.ensure_future(it.keepers.open_path(path, Access.READ))
                for _ in range(turns):
                    await asyncio.sleep(0)
                opening.cancel()
                for result in await asyncio.gather(opening, return_exceptions=True):
                    if not isinstance(result, BaseException):
                        result.release()
            (await it.keepers.open_path(path, Access.READ)).release()

    run(test())


def test_an_open_given_up_at_the_moment_it_succeeds_leaks_nothing(
    reachable_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with house(reachable_dir / "run") as it:
            opening = asyncio.ensure_future(it.keepers.open_path(str(reachable_dir / "file"), Access.READ))
            forget = it.keepers._forget_open

            def forget_and_cancel(number: int) -> None:
                forget(number)
                opening.cancel()

            monkeypatch.setattr(it.keepers, "_forget_open", forget_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert len(it.gone) == 1

    run(test())


def test_opens_fail_together_with_a_silent_keeper(reachable_dir: Path) -> None:
    (reachable_dir / "file").touch()

    async def test() -> None:
        async with house(reachable_dir / "run", silence_s=1.0) as it:
            path = str(reachable_dir / "file")
            (await it.keepers.open_path(path, Access.READ)).release()
            os.kill(it.keepers.pids()[UID], signal.SIGSTOP)
            opens = [it.keepers.open_path(path, Access.READ) for _ in range(3)]
            results = await asyncio.gather(*opens, return_exceptions=True)
            assert all(isinstance(result, KeeperSilent) for result in results), results
            (await it.keepers.open_path(path, Access.READ)).release()

    run(test())


def test_a_uid_whose_keepers_will_not_die_gets_no_more(reachable_dir: Path, fd: int) -> None:
    """Killed, but in a wait that cannot be interrupted; here the kill is held back."""

    async def test() -> None:
        async with house(reachable_dir, silence_s=0.5) as it:
            stuck = []
            for _ in range(STUCK_PER_UID_MAX):
                client = await it.client()
                await client.handles(fd)
                pid = it.keepers.pids()[UID]
                it.keepers._links[UID].kill = lambda: None  # type: ignore[method-assign]
                os.kill(pid, signal.SIGSTOP)
                stuck.append(pid)
                prompt = await it.client()
                assert isinstance(await client.receive(), Refused)
                assert isinstance(await prompt.receive(), Refused)
                client.close()
                prompt.close()
                # Its own connections were given to a new keeper, to be closed.
                await until(lambda: it.keepers.pids().get(UID, stuck[-1]) not in stuck or len(stuck) == 3)
            refused = await it.client()
            reply = await refused.receive()
            assert isinstance(reply, Refused)
            assert reply.reason == "KEEPER_SILENT"
            for pid in stuck:
                os.kill(pid, signal.SIGKILL)
            await until(lambda: not it.keepers._dying)
            assert await refused.receive() is None
            again = await it.client()
            assert await again.handles(fd)
            refused.close()
            again.close()

    run(test())


def test_keepers_end_when_the_daemon_is_killed(reachable_dir: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from ktaskd.door.keepers import Keepers\n"
        "from ktaskd.model.function import Access\n"
        "async def main():\n"
        "    keepers = Keepers()\n"
        "    await keepers.open_path('/etc/passwd', Access.READ)\n"
        "    print(*keepers.pids().values(), flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )

    async def test() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        pid = int(await process.stdout.readline())
        # It cannot even notice that its control socket is closed.
        os.kill(pid, signal.SIGSTOP)
        process.kill()
        await process.wait()
        await until(lambda: not is_running(pid))

    run(test())
