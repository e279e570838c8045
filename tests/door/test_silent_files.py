"""Files whose server stays silent: the keeper is lost, nothing else is.

Tests: ktaskd/door/handoff/keepers.py, ktaskd/door/handoff/link.py
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ktask.v1.handoff import Refused

from ktaskd.model.errors import FdUnsuitable, KeeperSilent
from ktaskd.model.function import Access
from tests.door import silent_fuse
from tests.door.door_with_keepers import UID, Client, DoorWithKeepers, door_with_keepers, memory, run, until

MNT_FORCE, MNT_DETACH = 1, 2

SEND = """
import os, socket, sys
from ktask.v1.handoff import Hand, encode_request
fd = os.open(sys.argv[1], os.O_RDWR)
sock = socket.socket(fileno=int(sys.argv[2]))
socket.send_fds(sock, [encode_request(Hand(9, (0,)))], [fd])
print("sent", flush=True)
"""


@pytest.fixture
def silent(reachable_dir: Path) -> Iterator[Path]:
    """A directory on a file system that hangs processes that close DIR/file or look up DIR/silent."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse here")
    place = reachable_dir / "mnt"
    place.mkdir()
    command = [sys.executable, silent_fuse.__file__, os.fspath(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            if server.stdout.readline() != "mounted\n":
                pytest.skip("FUSE cannot be mounted here")
            yield place
        finally:
            server.kill()
            ctypes.CDLL(None).umount2(os.fsencode(place), MNT_DETACH)


def send_silent(client: Client, place: Path) -> subprocess.Popen[str]:
    """Have another process send the file. Every process that closes it hangs, even at exit."""
    number = client.sock.fileno()
    command = [sys.executable, "-c", SEND, os.fspath(place / "file"), str(number)]
    sender = subprocess.Popen(command, pass_fds=[number], stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    with sender.stdout as out:
        assert out.readline() == "sent\n"
    return sender


def set_free(place: Path) -> None:
    """Abort the file system, which ends all waits with an error."""
    ctypes.CDLL(None).umount2(os.fsencode(place), MNT_FORCE)


async def works(it: DoorWithKeepers) -> None:
    """Check that a new connection is served."""
    fd = memory()
    client = await it.client()
    assert await client.handles(fd)
    client.close()
    os.close(fd)


@pytest.mark.other_uid
def test_a_file_that_hangs_costs_its_keeper_only(reachable_dir: Path, silent: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run", silence_s=1.0) as it:
            client = await it.client()
            sender = send_silent(client, silent)
            reply = await client.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (9, "KEEPER_SILENT")
            assert await client.receive() is None
            assert len(it.keepers._pool.dying) == 1, "killed, and cannot die"
            await works(it)
            assert it.keepers.lost == 1
            client.close()
            set_free(silent)
            await until(lambda: not it.keepers._pool.dying)
            sender.wait()

    run(test())


@pytest.mark.other_uid
def test_a_file_that_hangs_in_a_refused_connection_does_not_hang_the_daemon(
    reachable_dir: Path, silent: Path
) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run", silence_s=1.0, per_uid=1) as it:
            good = await it.client()
            await until(lambda: it.door.connections == 1)
            it.door._acceptor.stop()
            bad = await it.client()
            sender = send_silent(bad, silent)
            await it.door.start()
            reply = await bad.receive()
            assert isinstance(reply, Refused)
            assert (reply.number, reply.reason) == (0, "QUOTA_FULL")
            bad.close()
            reply = await good.receive()
            assert isinstance(reply, Refused), "its keeper met the file of the other"
            await works(it)
            good.close()
            set_free(silent)
            await until(lambda: not it.keepers._pool.dying)
            sender.wait()

    run(test())


@pytest.mark.other_uid
def test_a_path_that_hangs_is_given_up(reachable_dir: Path, silent: Path) -> None:
    async def test() -> None:
        async with door_with_keepers(reachable_dir / "run", silence_s=1.0) as it:
            with pytest.raises(FdUnsuitable, match='is on "fuse'):
                await it.keepers.open_path(f"{silent}/file", Access.READ)
            with pytest.raises(KeeperSilent):
                await it.keepers.open_path(f"{silent}/silent", Access.READ)
            await works(it)
            assert UID in it.keepers.pids()
            set_free(silent)
            await until(lambda: not it.keepers._pool.dying)

    run(test())
