"""The daemon to attack, the neighbour, raw connections, and what can be counted from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ktask.v1 import control_pb2, handoff

from tests.hostile.neighbour import Neighbour
from tests.support.real_daemon import PATIENCE_S, Daemon, Stubs, running, until, write_config
from tests.support.users import OtherUsers, reachable_directory

HANDLES = 256
KEPT = 3000
STALL_S = 2.0
BESIDE = 60009
"""The neighbour's uid."""

STREAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_SEQPACKET


@contextmanager
def open_daemon() -> Iterator[Daemon]:
    """A daemon that everybody may connect to, with small limits where tests have to reach them."""
    with reachable_directory() as place:
        config = write_config(
            place / "ktaskd.toml",
            sockets={"mode": "0666", "handles_per_uid": HANDLES, "watch_stall_s": STALL_S},
            # All workers from the start, since each later one would be more descriptors.
            workers={"user": "nobody", "warm": 64},
            jobs={"kept": KEPT},
        )
        with running(place / "run", "--config", config, popen=_as_the_unit_does) as started:
            yield started


def _as_the_unit_does(command: Any, **options: Any) -> subprocess.Popen[Any]:
    """Start with the environment of deploy/ktaskd.service."""
    return subprocess.Popen(command, env={**os.environ, "PYTHONMALLOC": "malloc"}, **options)


@contextmanager
def neighbour_of(daemon: Daemon, run_as: OtherUsers) -> Iterator[Neighbour]:
    """A well-behaved client in a process of its own, as another user if that is possible."""

    def start(code: str, place: str, **options: Any) -> subprocess.Popen[str]:
        if os.geteuid() == 0:
            return run_as.start(BESIDE, [run_as.interpreter, "-c", code, place], **options)
        return subprocess.Popen([sys.executable, "-c", code, place], text=True, **options)

    with Neighbour(daemon.place, start) as made:
        yield made


@contextmanager
def dialled(path: Path, kind: int = STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(os.fspath(path))
        yield sock


def counters(stubs: Stubs) -> dict[str, int]:
    status = stubs.control.GetStatus(control_pb2.GetStatusRequest()).status
    return {counter.name: counter.value for counter in status.counters}


def fds_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def limit_with_room(pid: int, room: int) -> int:
    """Return a limit on descriptors that leaves a process this many free numbers."""
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    limit = 0
    while room:
        room -= limit not in taken
        limit += 1
    return limit


def keeper_of(daemon: Daemon, sock: socket.socket) -> int:
    """Return the process id of the only keeper, once it serves this connection."""
    sock.send(handoff.encode_request(handoff.Drop(1, ("0" * 32,))))
    assert isinstance(handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX)), handoff.Dropped)
    found: list[int] = []

    def look() -> bool:
        for process in daemon.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ktaskd.door.handoff.keeper" in " ".join(process.cmdline()):
                    found.append(process.pid)
        return bool(found)

    until(look, "there is a keeper")
    return found[0]
