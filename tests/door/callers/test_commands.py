"""Command lines of callers are read beside the loop, and a hanging one holds nobody up."""

from __future__ import annotations

import threading

from ktaskd.door.callers.commands import PENDING_MAX, Commands
from ktaskd.door.callers.peers import PeerTable
from ktaskd.model.identity import Command, Identity


class Slow:
    """Reads a command line as soon as it may."""

    def __init__(self) -> None:
        self.may, self.done = threading.Event(), threading.Semaphore(0)

    def read(self, pid: int, uid: int) -> str:
        self.may.wait()
        self.done.release()
        return f"{pid} of {uid}"


def caller(pid: int) -> Identity:
    return Identity(uid=1, gid=1, pid=pid)


def test_commands_when_one_hangs_then_nobody_waits_and_the_number_is_limited() -> None:
    slow = Slow()
    commands = Commands(slow.read)
    first = commands.of(caller(1))
    while len(commands._pending):  # the thread has it in hand
        pass
    found = [commands.of(caller(2 + i)) for i in range(PENDING_MAX + 5)]
    assert not any(command.text for command in (first, *found))
    slow.may.set()
    while commands._reading:
        pass
    assert first.text == "1 of 1"
    assert [command.text for command in found[:2]] == ["2 of 1", "3 of 1"]
    assert [bool(command.text) for command in found[-6:]] == [True] + [False] * 5


def test_commands_when_the_process_is_in_another_pid_namespace_then_nothing_is_read() -> None:
    slow = Slow()
    assert Commands(slow.read).of(caller(0)).text == ""
    assert not slow.done.acquire(blocking=False)


def test_peers_when_described_then_the_command_stays_whatever_the_description_fails_with() -> None:
    def fail(_: Identity) -> Identity:
        raise RuntimeError

    peers = PeerTable(fail, lambda who: Command(f"command of {who.pid}"))
    name = peers.add(caller(7))
    peers.describe(name)
    assert peers.identity(f"unix-abstract:{name}").command.text == "command of 7"
