"""Restarts a worker by exec, with the interpreter and options of the program whose code it will run.

The process stays the same to the daemon and to the kernel: process id, socket, page of the board,
priority, CPUs, cgroup and clock. The worker hands its knowledge of the job and its unanswered frames to
the next program in a file in memory; the next program answers them as if they had just arrived. No part
of a chunk is done before the restart, so nothing is done twice.

The next program runs under the interpreter of the caller's program, but loads the daemon's own
packages, even if the caller's program has others of these names. They need only the standard library.
"""

from __future__ import annotations

import base64
import json
import mmap
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ktask import v1
from ktask.v1 import start

import ktaskd
from ktaskd.host import faults
from ktaskd.host.processes import process
from ktaskd.worker.frames import SLOT_BYTES

Json = dict[str, Any]

_FIRST = """
import importlib.util, json, sys
if sys.path[:1] == [""]:
    del sys.path[0]
with open(int(sys.argv[1])) as file:
    state = json.load(file)
sys.argv[:] = [""]
for name, directory in state["packages"].items():
    spec = importlib.util.spec_from_file_location(
        name, directory + "/__init__.py", submodule_search_locations=[directory]
    )
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from ktaskd.worker import life
life.go_on(state)
"""
"""The first code of the next program. Passed with -c, since a script's directory would be in sys.path."""


@dataclass(frozen=True, slots=True)
class Board:
    """Position of this worker's page in the board.

    The descriptor stays open only in workers that may get their user's own code.
    """

    fd: int
    offset: int

    def page(self) -> mmap.mmap:
        """Map the page."""
        return mmap.mmap(self.fd, SLOT_BYTES, offset=self.offset)


@dataclass(frozen=True, slots=True)
class Held:
    """The state that a worker hands over when it restarts.

    Args:
        known: jobs and sources, as `Known.to_json` returns them.
        frames: received and unanswered frames, in order.
        fds: descriptors of the sources.
    """

    sock: socket.socket
    board: Board
    nid: int
    known: Json
    frames: Sequence[bytes]
    fds: Sequence[int]


def begin(held: Held, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become the next program.

    Args:
        command: an interpreter and its options.
    Raises:
        OSError: the interpreter cannot be executed; nothing has changed.
    """
    state = os.memfd_create("ktask-state", 0)
    kept = [held.sock.fileno(), held.board.fd, *held.fds]
    try:
        with open(state, "w", closefd=False) as file:
            json.dump(_state(held), file)
        os.lseek(state, 0, os.SEEK_SET)
        for fd in kept:
            os.set_inheritable(fd, True)
        also = {faults.VARIABLE: os.environ[faults.VARIABLE]} if faults.ON else {}
        os.execve(command[0], [*command, "-c", _FIRST, str(state)], {**environ, **also})
    finally:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(state)


def resume(state: Json) -> Held:
    """In the next program: take over what was handed over, and close the descriptors to children."""
    start.note_started()
    if not state["dumpable"]:
        process.apply_undumpable()
    process.set_name(state["name"])
    # exec may clear both of these.
    process.set_death_signal(signal.SIGKILL)
    if os.getppid() != state["parent"]:
        os._exit(0)
    fds = [int(fd) for fd in state["fds"]]
    for fd in (state["sock"], state["board"], *fds):
        os.set_inheritable(fd, False)
    return Held(
        socket.socket(fileno=state["sock"]),
        Board(state["board"], state["offset"]),
        state["nid"],
        state["known"],
        [base64.b64decode(frame) for frame in state["frames"]],
        fds,
    )


def _state(held: Held) -> Json:
    return {
        "packages": {"ktaskd": _directory_of(ktaskd), "ktask": os.path.dirname(_directory_of(v1))},
        "sock": held.sock.fileno(),
        "board": held.board.fd,
        "offset": held.board.offset,
        "nid": held.nid,
        "known": held.known,
        "frames": [base64.b64encode(frame).decode() for frame in held.frames],
        "fds": list(held.fds),
        "dumpable": process.read_dumpable(),
        "name": process.read_name(),
        "parent": os.getppid(),
    }


def _directory_of(package: Any) -> str:
    (directory,) = package.__path__
    return str(directory)
