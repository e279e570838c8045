"""Strikes pool hosts, and workers while they hold a chunk, and checks that the daemon copes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from ktask.v1 import control_pb2 as cpb
from ktask.v1 import jobs_pb2 as pb

from ktaskd.functions.catalogue import CATALOGUE
from tests.fault.armed_faults import ArmedFaults
from tests.support.real_daemon import Stubs, connected

COPE_S = 0.5
"""How long the daemon has to deal with a stopped or sleeping worker before its job is cancelled."""

PATIENCE_S = 8.0
"""After a cancel, before we wake or kill the worker ourselves: more than grace and fence."""

POINTS = [
    "worker.before_ack",
    "worker.mid_chunk",
    "worker.mid_chunk",
    "worker.after_work",
    "worker.in_prepare",
    "worker.in_begin",
    "worker.in_combine",
    "worker.in_finish",
    "worker.in_undo",
    "worker.mid_undo",
    "worker.in_restore",
    "worker.after_step",
    "worker.at_start",
    "host.at_start",
    "host.before_fork",
    "host.after_fork",
]
ENDINGS = ["kill", "kill", "segv", "exit0", "raise"]
STANDSTILLS = ["stop", "hang", "burn"]

UNDOING = sorted(name for name, declaration in CATALOGUE.items() if declaration.undo and not declaration.own)

HOLDING = ("worker.mid_chunk", "worker.after_work", "worker.half_frame")
"""Fault points at which a worker holds a chunk that it has begun."""


def state_of(pid: int) -> str:
    """The kernel's letter for a process's state; "" if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    """Whether no thread of the process can run any more."""
    return state_of(pid) in ("", "Z", "X")


@dataclass
class StandStill:
    """A worker that stands still, and since when; `cancelled_s` is 0 until its job is cancelled."""

    pid: int
    since_s: float
    cancelled_s: float = 0.0


class Killer(threading.Thread):
    """Strikes until `finish`. Its numbers may be read after that.

    Args:
        socket: of the daemon.
        pause_s: on average between two strikes.
    """

    def __init__(self, socket: Path, armed: ArmedFaults, seed: int, pause_s: float) -> None:
        super().__init__(name="killer")
        self.landed: Counter[str] = Counter()
        """Strikes from outside at workers that held a chunk or a step, by signal."""
        self.missed = 0
        self.hosts: Counter[str] = Counter()
        self.copes: Counter[str] = Counter()
        """How the standstills ended."""
        self.cancelled: set[str] = set()
        """Ids of jobs that were cancelled because of a standstill."""
        self.error: BaseException | None = None
        self._socket = socket
        self._armed = armed
        self._rng = random.Random(f"killer/{seed}")
        self._pause_s = pause_s
        self._over = threading.Event()
        self._still: dict[int, StandStill] = {}
        self._known: set[str] = set()

    # -- its life ------------------------------------------------------------------

    def run(self) -> None:
        """Strike, and look after the workers that stand still."""
        try:
            with connected(self._socket) as stubs:
                while not self._over.wait(self._rng.expovariate(1 / self._pause_s)):
                    self._look_after(stubs)
                    self._strike(stubs)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        """End the strikes; workers that stand still are woken up or killed."""
        self._over.set()
        self.join()
        for name in self._armed.waiting():
            with contextlib.suppress(FileNotFoundError):
                (self._armed.directory / name).unlink()
        self._note_fired()
        for still in self._still.values():
            self._release(still)
        self._still.clear()

    def fired(self) -> Counter[str]:
        """Faults that happened, as "point action"."""
        return Counter(" ".join(name.split("~")[1:3]) for name in self._armed.fired())

    # -- strikes ---------------------------------------------------------------------

    def _strike(self, stubs: Stubs) -> None:
        what = self._rng.random()
        if what < 0.04:
            self._strike_host(stubs)
        elif what < 0.35:
            self._arm()
        elif what < 0.5:
            self._arm_for_one()
        else:
            self._strike_worker(stubs)

    def _arm(self) -> None:
        if len(self._armed.waiting()) >= 6:
            return
        still = len(self._still) < 2 and self._rng.random() < 0.25
        if still:
            points = [point for point in POINTS if not point.endswith(("at_start", "_fork"))]
            self._armed.arm(self._rng.choice(points), self._rng.choice(STANDSTILLS))
        elif self._rng.random() < 0.1:
            self._armed.arm("worker.half_frame", "half")
        else:
            self._armed.arm(self._rng.choice(POINTS), self._rng.choice(ENDINGS))

    def _arm_for_one(self) -> None:
        """A chunk that fails in its middle, of a function that then undoes the part that is done."""
        function = self._rng.choice(UNDOING)
        if not any(name.endswith(f"~{function}") for name in self._armed.waiting()):
            self._armed.arm("worker.mid_chunk", "raise", function)

    def _strike_host(self, stubs: Stubs) -> None:
        pids = [pool.host_pid for pool in _status(stubs).pools if pool.host_pid]
        if pids:
            number = self._rng.choice([signal.SIGKILL, signal.SIGSEGV])
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._rng.choice(pids), number)
                self.hosts[number.name] += 1

    def _strike_worker(self, stubs: Stubs) -> None:
        busy = [worker for worker in _busy(stubs) if worker.pid not in self._still]
        if not busy:
            return
        victim = self._rng.choice(busy)
        number = self._rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
        # Stop the worker first, so that what the daemon reports about it after that stays true.
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGSTOP)
            holds = any(worker.pid == victim.pid for worker in _busy(stubs))
            if not holds:
                self.missed += 1
                os.kill(victim.pid, signal.SIGCONT)
            elif number == signal.SIGSTOP and len(self._still) < 2:
                self._still[victim.pid] = StandStill(victim.pid, time.monotonic())
            else:
                number = signal.SIGKILL if number == signal.SIGSTOP else number
                os.kill(victim.pid, number)
                os.kill(victim.pid, signal.SIGCONT)
            self.landed[number.name] += holds

    # -- workers that stand still --------------------------------------------------------

    def _note_fired(self) -> None:
        for name, pid in self._armed.fired().items():
            if name not in self._known:
                self._known.add(name)
                if name.split("~")[2] in STANDSTILLS:
                    self._still[pid] = StandStill(pid, time.monotonic())

    def _look_after(self, stubs: Stubs) -> None:
        self._note_fired()
        now = time.monotonic()
        for still in list(self._still.values()):
            if is_gone(still.pid):
                how = "killed by the daemon after a cancel" if still.cancelled_s else "killed by the daemon"
                self.copes[how] += 1
            elif still.cancelled_s and now > still.cancelled_s + PATIENCE_S:
                self._release(still)
            elif not still.cancelled_s and now > still.since_s + COPE_S:
                self._cancel(stubs, still)
                continue
            else:
                continue
            del self._still[still.pid]

    def _cancel(self, stubs: Stubs, still: StandStill) -> None:
        """Cancel the job that waits for the worker, like a caller that loses patience."""
        still.cancelled_s = time.monotonic()
        for worker in _busy(stubs):
            if worker.pid == still.pid and worker.job_id:
                self.cancelled.add(worker.job_id)
                with contextlib.suppress(grpc.RpcError):
                    stubs.jobs.Cancel(pb.CancelRequest(id=worker.job_id))

    def _release(self, still: StandStill) -> None:
        """Wake up or kill a worker, since the daemon could not."""
        if is_gone(still.pid):
            return
        stopped = state_of(still.pid) == "T"
        self.copes["woken up by us" if stopped else "killed by us"] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(still.pid, signal.SIGCONT if stopped else signal.SIGKILL)


def _status(stubs: Stubs) -> cpb.Status:
    return stubs.control.GetStatus(cpb.GetStatusRequest()).status


def _busy(stubs: Stubs) -> Iterator[cpb.Worker]:
    """Workers that hold a chunk or a step now."""
    for pool in _status(stubs).pools:
        for worker in pool.workers:
            if worker.state == cpb.WORKER_STATE_BUSY and worker.pid and worker.job_id:
                yield worker
