"""Keepers: one per uid, shared by the uids of an account where they are many, given up when they hang."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ktask.v1 import handoff
from ktask.v1.handoff import Hand, Refused

from ktaskd.door.callers.reception import Reception
from ktaskd.door.handoff.keeperpool import STARTING_PER_ACCOUNT, STUCK_PER_UID_MAX
from ktaskd.door.handoff.link import NICE, Link
from ktaskd.model.errors import HandleUnknown
from tests.door.door_with_keepers import (
    UID,
    as_uid,
    descriptors_of,
    door_with_keepers,
    is_running,
    run,
    until,
)
from tests.support.users import REPOSITORY


@pytest.mark.other_uid  # only root can look into one
def test_a_keeper_is_small_shut_and_alone(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir) as it:
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
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)
            assert os.getsid(pid) == pid
            client.close()

    run(test())


def test_a_keeper_that_has_nothing_to_do_ends_and_the_next_one_starts(reachable_dir: Path, fd: int) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir, linger_s=0.05) as it:
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
        async with door_with_keepers(reachable_dir) as it:
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
        async with door_with_keepers(reachable_dir, total=50, keepers_total=1) as it:
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
        async with door_with_keepers(reachable_dir) as it:
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
        async with door_with_keepers(reachable_dir, silence_s=1.5) as it:
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


def test_a_uid_whose_keepers_will_not_die_gets_no_more(reachable_dir: Path, fd: int) -> None:
    """They were killed, but wait uninterruptibly; here the kill is held back instead."""

    async def test() -> None:
        async with door_with_keepers(reachable_dir, silence_s=0.5) as it:
            stuck = []
            for _ in range(STUCK_PER_UID_MAX):
                client = await it.client()
                await client.handles(fd)
                pid = it.keepers.pids()[UID]
                it.keepers._pool.links[UID].kill = lambda: None  # type: ignore[method-assign]
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
            await until(lambda: not it.keepers._pool.dying)
            assert await refused.receive() is None
            again = await it.client()
            assert await again.handles(fd)
            refused.close()
            again.close()

    run(test())


def test_keepers_end_when_the_daemon_is_killed(reachable_dir: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from ktaskd.door.handoff.keepers import Keepers\n"
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
        # It cannot even notice that its control socket was closed.
        os.kill(pid, signal.SIGSTOP)
        process.kill()
        await process.wait()
        await until(lambda: not is_running(pid))

    run(test())


@pytest.mark.slow
def test_uids_of_one_account_share_keepers_when_they_are_many(
    reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many uids as a user has subordinate uids, and then another user."""

    async def test() -> None:
        reception = Reception(account_of=lambda uid: -1 if uid >= 100_000 else None)
        async with door_with_keepers(reachable_dir, keepers_total=12, reception=reception) as it:
            clients = []
            for uid in range(100_000, 100_020):
                as_uid(monkeypatch, uid)
                client = await it.client()
                clients.append(client)
                assert await client.handles(fd)
            shared = it.keepers.pids()
            assert len(shared) <= 6, "half of what is free"
            as_uid(monkeypatch, 2001)
            other = await it.client()
            assert await other.handles(fd)
            assert 2001 in it.keepers.pids()
            as_uid(monkeypatch, UID)
            admin = await it.client()
            assert await admin.handles(fd)
            for client in (*clients, other, admin):
                client.close()

    run(test())


def test_uids_of_one_account_that_come_at_once_share_the_keepers_that_start(
    reachable_dir: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of a process takes CPU time, which other users notice. Later each uid gets its own keeper."""

    async def test() -> None:
        reception = Reception(account_of=lambda uid: -1 if uid >= 100_000 else None)
        async with door_with_keepers(reachable_dir, reception=reception) as it:
            clients = []

            async def join(uid: int) -> None:
                as_uid(monkeypatch, uid)
                clients.append(await it.client())
                assert await clients[-1].handles(fd)

            with monkeypatch.context() as patch:
                patch.setattr(Link, "ready", False)  # all of them are still starting
                for uid in range(100_000, 100_005):
                    await join(uid)
                await join(2001)
            assert set(it.keepers.pids()) == {100_000, 100_001, 2001}
            assert STARTING_PER_ACCOUNT == 2
            await join(100_004)
            assert 100_004 in it.keepers.pids()
            for client in clients:
                client.close()

    run(test())


def test_a_keeper_that_had_no_time_because_the_daemon_had_none_is_not_given_up(
    reachable_dir: Path, fd: int
) -> None:
    """As after a pause of the machine, when many timers are due at once and say nothing about the keeper."""

    async def test() -> None:
        async with door_with_keepers(reachable_dir, silence_s=2.0) as it:
            first = await it.client()
            await first.handles(fd)
            (pid,) = it.keepers.pids().values()
            os.kill(pid, signal.SIGSTOP)
            second = await it.client()
            await until(lambda: it.door.connections == 2)
            time.sleep(2.5)  # the loop stands still
            for _ in range(5):
                await asyncio.sleep(0)
            os.kill(pid, signal.SIGCONT)
            assert await second.handles(fd)
            assert it.keepers.lost == 0
            first.close()
            second.close()

    run(test())


SETTLED = """
import mmap, os
from ktaskd.door.handoff import keeper
keeper.settle(os.getppid())
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    print("refused")
"""


def test_a_keeper_runs_no_code_that_it_was_sent() -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 3):
        pytest.skip("needs PR_SET_MDWE, of Linux 6.3")
    done = subprocess.run(
        [sys.executable, "-c", SETTLED], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout == "refused\n"
