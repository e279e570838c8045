"""Many jobs with known results, several at once, while workers and pool hosts are struck."""

from __future__ import annotations

import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ktask.v1 import jobs_pb2 as pb
from ktask.v1.handoff import FDS_MAX

from tests.fault import recovery, works
from tests.fault.armed_faults import ArmedFaults, armed_faults
from tests.fault.footprint import MEMORY, settled
from tests.fault.killer import HOLDING, Killer
from tests.fault.work import Work
from tests.support.real_daemon import (
    Daemon,
    Stubs,
    connected,
    find_by_request,
    handed_over,
    memory,
    running,
    spec,
    state_name,
    write_config,
)
from tests.support.users import reachable_directory

CALLERS = 6
"""Jobs at the same time."""

JOB_S = 90.0
"""A job that takes longer than this has not ended in bounded time."""

MEMORY_MAX = 6 << 20
"""How much more private memory the daemon may have in the end: allocators keep some."""

BEFORE_ITS_END = (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING)

WAYS = ("run", "run", "run", "submit", "cancel", "leave")
"""How a job is requested: waited for, detached, detached and cancelled, waited for and left."""


Functions = Mapping[str, Sequence[works.Maker]]


@dataclass
class Report:
    """The outcome. The campaign has passed if `violations` is empty."""

    seed: int
    jobs: int
    seconds: float = 0.0
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of jobs by kind and final state."""
    functions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rerun: int = 0
    landed: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    hosts: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    copes: Counter[str] = field(default_factory=Counter)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    recovery: dict[str, list[float]] = field(default_factory=dict)
    """Seconds until a killed process is replaced, while there is nothing else to do."""
    violations: list[str] = field(default_factory=list)
    log: str = ""
    """The daemon's log."""

    @property
    def held(self) -> int:
        """Workers struck while they held a chunk or a step."""
        inside = sum(count for name, count in self.fired.items() if name.split()[0] in HOLDING)
        return self.landed.total() + inside


class Campaign:
    """One run against one daemon."""

    def __init__(
        self, daemon: Daemon, armed: ArmedFaults, report: Report, place: Path, functions: Functions
    ) -> None:
        self._functions = functions
        self._daemon = daemon
        self._armed = armed
        self._report = report
        self._place = place
        self._todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended: list[tuple[Work, str, pb.Job]] = []

    def run(self, pause_s: float, recoveries: int) -> None:
        """All of it."""
        report = self._report
        # One handle all the time, so that there is a keeper at every look.
        with memory(1) as fd, handed(self._daemon.handoff, [fd]), connected(self._daemon.socket) as stubs:
            self._each_kind_once()
            report.before = settled(self._daemon, stubs, None)
            killer = Killer(self._daemon.socket, self._armed, report.seed, pause_s)
            killer.start()
            try:
                self._all_jobs()
            finally:
                killer.finish()
            self._judge(killer)
            settled(self._daemon, stubs, report.before)
            report.recovery = recovery.measure(stubs, recoveries)
            report.after = settled(self._daemon, stubs, report.before)
            self._compare()

    def _each_kind_once(self) -> None:
        """Before the first look: anything that is loaded once is no leak."""
        for i in range(2 * len(self._functions)):
            self._todo.put(-1 - i)
        self._call_all()
        for work, way, job in self._ended:
            self._check(work, way, job, set())
        self._ended.clear()
        assert not self._report.violations, self._report.violations

    def _all_jobs(self) -> None:
        for i in range(self._report.jobs):
            self._todo.put(i)
        self._call_all()

    # -- callers -----------------------------------------------------------------------

    def _call_all(self) -> None:
        callers = [threading.Thread(target=self._call, name=f"caller{i}") for i in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    def _call(self) -> None:
        """One caller, who requests one job after the other until none is left."""
        with connected(self._daemon.socket) as stubs:
            while True:
                try:
                    i = self._todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    self._one(stubs, i)
                except BaseException as error:
                    self._violate(f"job {i}: {type(error).__name__}: {error}")

    def _one(self, stubs: Stubs, i: int) -> None:
        rng = random.Random(f"way/{self._report.seed}/{i}")
        way = rng.choice(WAYS) if i >= 0 else "run"
        work = works.make(i, self._report.seed, self._place, self._functions)
        try:
            fds = [*work.sources.values(), *work.items]
            with handed(self._daemon.handoff, fds) as handles:
                sources = dict(zip(work.sources, handles, strict=False))
                items = handles[len(sources) :]
                message = spec(work.function, sources=sources, items=items, request_id=f"{i}", **work.fields)
                job = ask(stubs, message, way, rng)
            self._check_target(i, work, way, job)
        finally:
            work.close()

    def _check_target(self, i: int, work: Work, way: str, job: pb.Job) -> None:
        """Judged at once, since the target is closed afterwards."""
        for what in work.wrong(job):
            self._violate(f"job {i} ({work.kind}, {way}): {what}\n{job}")
        with self._lock:
            self._ended.append((work, way, job))

    def _violate(self, what: str) -> None:
        with self._lock:
            self._report.violations.append(what)

    # -- judging -----------------------------------------------------------------------

    def _judge(self, killer: Killer) -> None:
        report = self._report
        if killer.error is not None:
            self._violate(f"the killer: {type(killer.error).__name__}: {killer.error}")
        report.landed, report.missed = killer.landed, killer.missed
        report.hosts, report.copes, report.fired = killer.hosts, killer.copes, killer.fired()
        for work, way, job in self._ended:
            self._check(work, way, job, killer.cancelled)
            report.endings[work.kind, state_name(job)] += 1
            report.functions[work.function] += 1
            report.rerun += job.cpu.chunks_rerun
            if job.error.reason:
                report.reasons[job.error.reason] += 1
        if len(self._ended) != report.jobs and not report.violations:
            self._violate(f"{len(self._ended)} jobs ended, wanted {report.jobs}")

    def _check(self, work: Work, way: str, job: pb.Job, cancelled: set[str]) -> None:
        """Whether the job may end in this way."""
        state, error = state_name(job), job.error
        stopped = way in ("cancel", "leave") or job.id in cancelled
        allowed = {
            "CANCELLED": stopped,
            "CLIENT_GONE": way == "leave",
            "WORKER_LOST": True,
            "FUNCTION_ERROR": work.fails or "a fault that" in error.message,
            "": not work.fails,
        }
        if not allowed.get(error.reason, False):
            self._violate(f"job {job.id} ({work.kind}, {way}): {state} {error.reason} {error.message}")
        if (state == "DIRTY") != bool(error.dirty):
            self._violate(f"job {job.id} ({work.kind}): {state}, dirty {error.dirty}")

    def _compare(self) -> None:
        before, after = self._report.before, self._report.after
        for name in sorted(before.keys() | after.keys()):
            was, now = before.get(name, 0), after.get(name, 0)
            room = MEMORY_MAX if name == MEMORY else 0
            if (now > was + room) if name == MEMORY else (now != was):
                self._violate(f"{name}: {now} after the jobs, {was} before")


def ask(stubs: Stubs, message: pb.JobSpec, way: str, rng: random.Random) -> pb.Job:
    """Have the job done in one of the WAYS; returns the ended job."""
    if way == "run":
        return stubs.jobs.Run(pb.RunRequest(spec=message), timeout=JOB_S).job
    if way == "leave":
        call = stubs.jobs.Run.future(pb.RunRequest(spec=message), timeout=JOB_S)
        job = find_by_request(stubs.jobs, message.request_id)
        time.sleep(rng.uniform(0, 0.05))
        call.cancel()
        return ended(stubs, job.id)
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=message), timeout=JOB_S).job
    if way == "cancel":
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, 0.05))
        else:
            wait_for_a_chunk(stubs, job.id)
        stubs.jobs.Cancel(pb.CancelRequest(id=job.id), timeout=JOB_S)
    return ended(stubs, job.id)


def wait_for_a_chunk(stubs: Stubs, job_id: str) -> None:
    """Wait until there is something to undo, or the job has ended."""
    while True:
        job = stubs.jobs.Get(pb.GetRequest(id=job_id), timeout=JOB_S).job
        if job.progress.chunks_done or job.state not in BEFORE_ITS_END:
            return
        time.sleep(0.001)


def ended(stubs: Stubs, job_id: str) -> pb.Job:
    """Follow a job to its end."""
    for update in stubs.jobs.Watch(pb.WatchRequest(id=job_id), timeout=JOB_S):
        if update.final:
            return update.job
    raise AssertionError(f"job {job_id}: its watch ended before it did")


@contextmanager
def handed(path: Path, fds: list[int]) -> Iterator[list[dict[str, str]]]:
    """Handles of many descriptors, which take several connections."""
    with ExitStack() as stack:
        found: list[str] = []
        for first in range(0, len(fds), FDS_MAX):
            found += stack.enter_context(handed_over(path, *fds[first : first + FDS_MAX]))
        yield [{"handle": handle} for handle in found]


# -- the whole --------------------------------------------------------------------------


def run(
    jobs: int,
    seed: int,
    functions: Functions = works.MAKERS,
    *,
    pause_s: float = 0.012,
    recoveries: int = recovery.TIMES,
) -> Report:
    """A campaign of so many jobs against a daemon of its own; with works.OWN one of this user's own.

    Args:
        pause_s: between two strikes, on average.
        recoveries: how often the time is measured until what was killed is replaced.
    """
    report = Report(seed, jobs)
    began_s = time.monotonic()
    with armed_faults() as armed, reachable_directory() as place:
        settings: dict[str, dict[str, object]] = {
            "workers": {"cancel_grace_s": 0.5, "fence_s": 5.0, "hang_cpu_s": 0.5},
            "jobs": {"kept": 20},
        }
        if os.geteuid() == 0 and functions is works.MAKERS:
            settings["workers"]["user"] = "nobody"
        config = write_config(place / "ktaskd.toml", **settings)
        environ = {**os.environ, **armed.environ}

        def popen(*args: object, **options: object) -> subprocess.Popen[bytes]:
            return subprocess.Popen(*args, env=environ, **options)  # type: ignore[call-overload, no-any-return]

        words = ["--own-user"] if functions is works.OWN else []
        with running(place / "run", "--config", config, *words, popen=popen) as daemon:
            try:
                Campaign(daemon, armed, report, place, functions).run(pause_s, recoveries)
            except BaseException:
                print(daemon.log()[-4000:], file=sys.stderr)
                raise
            report.log = daemon.log()
    report.seconds = time.monotonic() - began_s
    return report
