"""A private daemon and the requests of the rows to it, by the public contract only."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc
import ktask
from ktask.v1 import control_pb2 as pb

from tests.bench.interference import cputime
from tests.bench.interference.programs import Unmeasured
from tests.support.real_daemon import Daemon, Stubs, connected, running

_ORPHAN_EXIT_S = 300
"""The daemon exits after this long without clients, so that it ends even if its starter was killed."""
_POLL_S = 0.02
_CALL_S = 15.0
_ITEMS = 4096
_BYTES_PER_CPU = 128 << 20
"""Size of an item: all CPUs together read it in some 25 ms, at 5 GB/s each."""


class PrivateDaemon:
    """A daemon of our own and connections to it."""

    def __init__(self, daemon: Daemon, client: ktask.Client, stubs: Stubs) -> None:
        """Use these."""
        self.daemon = daemon
        self.client = client
        self.stubs = stubs

    def status(self) -> pb.Status:
        """The daemon's current status."""
        return self.stubs.control.GetStatus(pb.GetStatusRequest(), timeout=_CALL_S).status

    def set_mode(self, mode: str) -> None:
        """Set the mode: "auto", "always" or "paused".

        Raises:
            Unmeasured: this daemon does not support the mode.
        """
        request = pb.SetModeRequest(mode=pb.Mode.Value(f"MODE_{mode.upper()}"))
        try:
            self.stubs.control.SetMode(request, timeout=_CALL_S)
        except grpc.RpcError as error:
            raise Unmeasured(f"SetMode {mode}: {error.code().name}: {error.details()}") from error

    def pids(self, kind: pb.WorkerClass.ValueType) -> list[int]:
        """The workers of one class."""
        pools = [pool for pool in self.status().pools if pool.worker_class == kind]
        return [worker.pid for pool in pools for worker in pool.workers if worker.pid]

    def helpers(self) -> list[int]:
        """Process ids of the helpers."""
        return self.pids(pb.WORKER_CLASS_HELPER)

    def leads(self) -> list[int]:
        """Process ids of the leads."""
        return self.pids(pb.WORKER_CLASS_LEAD)

    def worker_seconds(self) -> float:
        """CPU time of all workers so far."""
        return cputime.on_cpu([*self.helpers(), *self.leads()])

    @contextmanager
    def working(self, memory: ktask.Memory | None = None, *, busy: bool = True) -> Iterator[ktask.Job]:
        """A detached job with endless work for all helpers; cancelled at the end.

        Args:
            memory: read over and over, some 100 s long on memory of
                work_memory's size; None = the job only burns CPU time.
            busy: wait until every helper holds a chunk of it.
        Raises:
            Unmeasured: not all helpers become busy.
        """
        job = self._burn() if memory is None else self._sum(memory)
        try:
            if busy:
                self.wait(self.all_busy, "every helper holds a chunk of a detached job")
            yield job
        finally:
            self.client.cancel(job)

    def _burn(self) -> ktask.Job:
        ranges = [(0, 1 << 40, -1)]
        return self.client.submit(
            "selftest.spin", arg={"ms": 5.0}, ranges=ranges, max_threads=_many_threads()
        )

    def _sum(self, memory: ktask.Memory) -> ktask.Job:
        return self.client.submit("file.crc32", items=[memory] * _ITEMS, max_threads=_many_threads())

    def running_job(self) -> ktask.Job:
        """The only job that runs, as soon as there is one."""
        found: list[ktask.Job] = []

        def look() -> bool:
            found[:] = self.client.jobs(states=["RUNNING"])
            return bool(found)

        self.wait(look, "a client's job runs")
        return found[0]

    def all_busy(self) -> bool:
        """Whether every existing helper holds a chunk."""
        pools = [pool for pool in self.status().pools if pool.worker_class == pb.WORKER_CLASS_HELPER]
        states = [worker.state for pool in pools for worker in pool.workers]
        return bool(states) and all(state == pb.WORKER_STATE_BUSY for state in states)

    def wait(self, condition: Callable[[], bool], what: str, limit_s: float = 10.0) -> float:
        """Seconds until the condition holds.

        Raises:
            Unmeasured: it does not hold after `limit_s`.
        """
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > limit_s:
                raise Unmeasured(f"not after {limit_s:g} s: {what}; the status says {self.reasons()}")
            time.sleep(_POLL_S)
        return time.monotonic() - begin

    def reasons(self) -> str:
        """Codes of the reasons for fewer helpers, as in "ON_BATTERY 0 s"."""
        codes = sorted(reason.code for reason in self.status().allowance.reasons)
        return ", ".join(codes) or "no reason for fewer helpers"

    def gives_way(self) -> str:
        """The mechanism by which helpers give way here, from the status."""
        found = {
            f"{worker.gives_way_by or 'cgroup ' + (worker.cgroup or '?')}, {worker.policy}, "
            f"nice {worker.nice}"
            for pool in self.status().pools
            if pool.worker_class == pb.WORKER_CLASS_HELPER
            for worker in pool.workers
        }
        return " or ".join(sorted(found))


@contextmanager
def work_memory() -> Iterator[ktask.Memory]:
    """Memory filled with data, more for more CPUs, larger than their caches."""
    with ktask.memory(_BYTES_PER_CPU * (os.cpu_count() or 1)) as memory:
        memory[:] = os.urandom(1 << 20) * (len(memory) >> 20)
        yield memory


@contextmanager
def stopped_well(daemon: Daemon) -> Iterator[None]:
    """Let a daemon end on its own after an error: if killed, it would leave its cgroups."""
    try:
        yield
    except BaseException:
        daemon.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait()
        raise


def _many_threads() -> int:
    return max(4, os.cpu_count() or 1)


@contextmanager
def private_daemon(
    directory: Path, name: str, *words: str | Path, environ: Mapping[str, str] | None = None
) -> Iterator[PrivateDaemon]:
    """A daemon with the selftest functions, ended at the end.

    Args:
        name: of its directory below `directory`; also of its log and of its
            configuration, which is the default if there is no such file.
        words: added to its command line.
        environ: added to its environment.
    """
    config = directory / f"{name}.toml"
    config.touch()
    popen = functools.partial(
        subprocess.Popen, start_new_session=True, env={**os.environ, **(environ or {})}, cwd="/"
    )
    usual = ("--config", config, "--idle-exit", str(_ORPHAN_EXIT_S))
    with contextlib.ExitStack() as end:
        daemon = end.enter_context(running(directory / name, *usual, *words, popen=popen))
        end.enter_context(stopped_well(daemon))
        client = end.enter_context(ktask.connect(daemon.place))
        stubs = end.enter_context(connected(daemon.socket))
        yield PrivateDaemon(daemon, client, stubs)
