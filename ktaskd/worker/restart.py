"""A worker that starts again, by exec, as the program was started whose code it is to run.

The process stays the same to the daemon and to the kernel: process id, socket, page of the board,
priority, CPUs, cgroup and clock. What it knows of its job, and the frames that it had not answered,
go to the next program in a file in memory; the next program answers them as if they had just come.
Nothing of a chunk is done before, so nothing is done twice.

The next program loads the daemon's own packages, wherever the program finds others of these names,
under the program's interpreter. They need nothing but the standard library.
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
for name, place in state["packages"].items():
    spec = importlib.util.spec_from_file_location(
        name, place + "/__init__.py", submodule_search_locations=[place]
    )
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from ktaskd.worker import life
life.go_on(state)
"""
"""What the next program runs first; by -c, since a script's directory would be in sys.path."""


@dataclass(frozen=True, slots=True)
class Board:
    """Where this worker's page of the board is; the descriptor is only kept where own code may come."""

    fd: int
    offset: int

    def page(self) -> mmap.mmap:
        """Map the page."""
        return mmap.mmap(self.fd, SLOT_BYTES, offset=self.offset)


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker holds at the moment when it starts again.

    Args:
        known: jobs and sources, as `Known.to_json` has them.
        frames: received and not answered, in order.
        fds: of the sources.
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
        OSError: the interpreter cannot be executed; nothing has changed then.
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
    """In the next program: take over what was held; no child inherits its descriptors."""
    start.note_started()
    if not state["dumpable"]:
        process.apply_undumpable()
    process.set_name(state["name"])
    # Both of these may be lost by exec.
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
        "packages": {"ktaskd": _place(ktaskd), "ktask": os.path.dirname(_place(v1))},
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


def _place(package: Any) -> str:
    (place,) = package.__path__
    return str(place)
