"""A pool host: forks workers from a process that has loaded everything, and reaps them.

It was started by exec, or forked by `pool.hosts` which was. So it has neither grpc nor threads and
can fork. It exchanges JSON datagrams with the daemon over one SOCK_SEQPACKET socket:

    daemon: {"op": "board"} + memfd        the workers' shared pages
            {"op": "name", "name"}         its name in ps
            {"op": "group", "path"} + cgroup.procs of the helpers' idle group, and of a normal one
            {"op": "normal_group"} + cgroup.procs of a normal group, if the host has that of its own
            {"op": "spawn", "id", "slot", "placement"}
            {"op": "kill", "id"}
    host:   {"op": "ready", "pid"} + pidfd, and cgroup.procs of its own group if it has that
            {"op": "spawned", "id", "pid"} + worker's socket, pidfd
            {"op": "failed", "id", "message"}
            {"op": "exited", "id", "status"}   status of waitpid, when no process that it started is left

End of file, or the SIGTERM that the kernel sends when the daemon dies, means that the daemon is
gone. Before the host ends it kills and reaps every worker and all processes that they have started,
and removes their group.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from ktaskd.functions import bodies
from ktaskd.host import faults, logline
from ktaskd.host.cgroups import idlegroup
from ktaskd.host.processes import descendants, process
from ktaskd.host.scheduling import sched
from ktaskd.host.scheduling.raising import Raiser
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.model.worker import Placement, WorkerClass
from ktaskd.pool.leftovers import Exit, Leftovers
from ktaskd.worker import life
from ktaskd.worker.frames import SLOT_BYTES
from ktaskd.worker.restart import Board

LOG_NAME = "ktaskd.pool.host"

GROUP_PATIENCE_S = 5.0
"""Seconds to wait for the kernel to empty the helpers' cgroup after the last of them was reaped.
On a busy machine 1 s was not enough."""

LEFTOVERS_PATIENCE_S = 3.0
"""Seconds that an ending host waits for the end of all processes that its workers have started."""


def placement_to_json(placement: Placement) -> dict[str, Any]:
    """The form of a placement that placement_from_json reads."""
    return {
        "class": placement.worker_class.value,
        "cpus": sorted(placement.cpus),
        "nid": placement.nid,
        "uid": placement.uid,
        "gid": placement.gid,
        "memory_group": placement.memory_group,
        "own_code": placement.own_code,
    }


def placement_from_json(body: dict[str, Any]) -> Placement:
    """The placement that the daemon sent."""
    return Placement(
        WorkerClass(body["class"]),
        frozenset(body["cpus"]),
        body["nid"],
        body["uid"],
        body["gid"],
        body["memory_group"],
        body["own_code"],
    )


class PoolHost:
    """One pool host: its connection to the daemon, and its children."""

    def __init__(self, control: socket.socket, cgroup_fd: int = -1) -> None:
        """Take over the control socket.

        Args:
            cgroup_fd: cgroup.procs of our own group; -1 = we have none.
        """
        self._control = control
        self._cgroup_fd = cgroup_fd
        self._board = -1
        self._group_fds: list[int] = []
        self._group_path: Path | None = None
        self._raiser = Raiser()
        self._ending = False
        self._children: dict[int, int] = {}  # pid -> worker id
        self._leftovers = Leftovers(self._children, lambda pid: self._raiser.raise_(pid))
        self._orphans_ended = False
        self._wake_r, self._wake_w = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the daemon is gone, then kill and reap all that is left."""
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        signal.set_wakeup_fd(self._wake_w.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        with contextlib.suppress(OSError):
            descendants.adopt_orphans()
        self._send_ready()
        while self._serve_once() and not self._ending:
            self._reap()
        self._end_children()
        if self._group_path is not None:
            idlegroup.remove(self._group_path, patience_s=GROUP_PATIENCE_S)

    def _send_ready(self) -> None:
        pidfd = os.pidfd_open(os.getpid())
        cgroup_fds = [self._cgroup_fd] if self._cgroup_fd >= 0 else []
        self._send({"op": "ready", "pid": os.getpid()}, [pidfd, *cgroup_fds])
        os.close(pidfd)

    def _on_term(self, *_: object) -> None:
        self._ending = True

    def _serve_once(self) -> bool:
        for key, _ in self._selector.select(self._leftovers.patience_s(time.monotonic())):
            if key.fileobj is self._wake_r:
                with contextlib.suppress(BlockingIOError):
                    self._wake_r.recv(4096)
            elif not self._serve_control():
                return False
        return True

    def _serve_control(self) -> bool:
        try:
            frame, fds, _, _ = socket.recv_fds(self._control, FRAME_BYTES_MAX, 2)
        except ConnectionError:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        if not frame:
            return False
        message = json.loads(frame)
        if message["op"] == "board":
            self._board = fds[0]
        elif message["op"] == "name":
            process.set_name(message["name"])
        elif message["op"] == "normal_group":
            self._group_fds = [self._cgroup_fd, fds[0]]
            self._raiser = Raiser(self._cgroup_fd, fds[0])
        elif message["op"] == "group":
            self._group_fds, self._group_path = fds, Path(message["path"])
            self._raiser = Raiser(fds[0], fds[1])
        elif message["op"] == "spawn":
            self._spawn(message)
        elif message["op"] == "kill":
            self._kill(message["id"])
        return True

    def _spawn(self, message: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        try:
            faults.hit("host.before_fork")
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            self._send({"op": "failed", "id": message["id"], "message": f"fork: {error}"})
            return
        if pid == 0:
            ours.close()
            self._become_worker(theirs, message, parent)
        with ours, theirs:
            self._children[pid] = message["id"]
            faults.hit("host.after_fork")
            pidfd = os.pidfd_open(pid)
            self._send({"op": "spawned", "id": message["id"], "pid": pid}, [ours.fileno(), pidfd])
            os.close(pidfd)

    def _become_worker(self, sock: socket.socket, message: dict[str, Any], parent: int) -> NoReturn:
        """In the child: close everything of the host, then work until the end."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Siblings see end of file only if no other process has these open.
            self._control.close()
            self._selector.close()
            self._wake_r.close()
            self._wake_w.close()
            placement = placement_from_json(message["placement"])
            helper = placement.worker_class is WorkerClass.HELPER
            missing = self._enter_group() if helper else []
            for fd in {*self._group_fds, self._cgroup_fd} - {-1}:
                os.close(fd)  # a process that has one can move any process
            board = Board(self._board, message["slot"] * SLOT_BYTES)
            page = board.page()
            if not placement.own_code:
                os.close(self._board)
            if helper:
                _begin_session()
            life.run(sock, memoryview(page), placement, parent=parent, missing=missing, board=board)
        except BaseException as error:
            logline.report_exception(life.LOG_NAME, error)
        finally:
            os._exit(70)

    def _enter_group(self) -> list[str]:
        """Move from the daemon's group into the helpers' group; returns what failed, in words."""
        if self._group_path is not None:
            try:
                idlegroup.enter(self._group_fds[0])
            except OSError as error:
                return [f"idle cgroup {self._group_path}: {error.strerror}"]
        return []

    def _kill(self, worker_id: int) -> None:
        for pid, known in self._children.items():
            if known == worker_id:
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Reap children that have ended, and report workers of which no process is left."""
        exits: list[Exit] = []
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if (worker_id := self._children.pop(ended[0], None)) is not None:
                    exits.append(Exit(ended[0], worker_id, ended[1]))
                else:
                    self._orphans_ended = True
        if exits or self._leftovers or self._orphans_ended:
            self._orphans_ended = False
            for one in self._leftovers.look(exits, time.monotonic()):
                self._send({"op": "exited", "id": one.worker_id, "status": one.status})

    def _end_children(self) -> None:
        for pid in self._children:
            # A starved process takes seconds to die unless it is raised first.
            self._raiser.raise_(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        exits: list[Exit] = []
        for pid in list(self._children):
            with contextlib.suppress(ChildProcessError):
                exits.append(Exit(pid, self._children[pid], os.waitpid(pid, 0)[1]))
            del self._children[pid]
        self._end_leftovers(exits)

    def _end_leftovers(self, exits: list[Exit]) -> None:
        """End the processes that workers have started, for at most LEFTOVERS_PATIENCE_S."""
        until_s = time.monotonic() + LEFTOVERS_PATIENCE_S
        self._leftovers.look(exits, time.monotonic())
        while (patience_s := self._leftovers.patience_s(now_s := time.monotonic())) is not None:
            if now_s > until_s:
                return
            time.sleep(patience_s)
            self._reap()

    def _send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._control, [json.dumps(message).encode()], fds or [])


def _begin_session() -> None:
    """Begin a session, and so an autogroup: nice counts only inside one, and raising it raises no other."""
    os.setsid()
    with contextlib.suppress(OSError):
        sched.set_own_autogroup_nice(19)


def warm_up() -> None:
    """Load everything that workers need, so that they share it with the process they are forked from."""
    bodies.load_all()
    gc.collect()
    gc.freeze()  # so that garbage collection in workers does not copy these pages


def main(argv: list[str]) -> int:
    """Run a pool host; argv: descriptor of the control socket, name, and optionally "undumpable"."""
    logline.report_uncaught(LOG_NAME)
    faults.hit("host.at_start")
    control = socket.socket(fileno=int(argv[0]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.setsid()  # Ctrl-C at the terminal is for the daemon only
    process.set_death_signal(signal.SIGTERM)
    process.set_name(argv[1])
    if "undumpable" in argv[2:]:
        process.apply_undumpable()
    process.lift_data_limit()  # the memory that workers map for clients is limited elsewhere
    warm_up()
    PoolHost(control).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
