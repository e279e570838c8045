"""An engine with simulated workers, on a loop whose time is the test's.

No process runs: a simulated worker holds what it was sent, and the test says what it does
with it. Writes into the sources are noted, so that it can be seen
whether an undo took them all back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from ktaskd.host.caller import Caller
from ktaskd.jobs import view
from ktaskd.jobs.accepted import Sources
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.job import Job
from ktaskd.jobs.patience import Clocks, Patience
from ktaskd.jobs.ports import PoolRequests, Worker
from ktaskd.jobs.registry import JobLimits, Registry
from ktaskd.model.allowance import Allowance
from ktaskd.model.checked import CheckedJob
from ktaskd.model.function import Access, Declaration, Partial, SourceRole
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.limits import BLOCKED_MAX
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.priority import Priority
from ktaskd.model.spans import SpanSet
from ktaskd.model.topology import Node, Topology
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.planner.plan import NodePart, Plan
from ktaskd.pool.death import Death
from ktaskd.worker.frames import Done
from ktaskd.worker.messages import Report
from tests.jobs.leaploop import LeapLoop, pending
from tests.jobs.simulated_worker import QUANTUM, SimulatedWorker

KEEP_S = 5.0

READER = Declaration("reader", "Reads.", partial=Partial.RERUN_SAFE, combine=True)
STEPS = Declaration("steps", "Reads in steps.", partial=Partial.RERUN_SAFE, combine=True, lifecycle=True)
_ROLE = SourceRole("data", Access.READ_WRITE, "The target.")
WRITER = Declaration(
    "writer", "Writes.", partial=Partial.UNDO_TOLERATES, undo=True, writes_bytes=True, sources=(_ROLE,)
)
REWRITER = Declaration(
    "rewriter", "Writes the same.", partial=Partial.RERUN_SAFE, undo=True, writes_bytes=True, sources=(_ROLE,)
)
SLEEPER = Declaration("sleeper", "Sleeps in the caller's own code.", own=True)
LEASED = {kind: replace(kind, quantum=QUANTUM) for kind in (READER, STEPS, WRITER, REWRITER)}
"""The same functions for workers that hold leases."""
GROUP = MemoryLimit(1 << 20, "/group", "/group")


class SimulatedRaiser:
    """Raises and lowers simulated workers; the test says whether that works."""

    methods = ("a string",)

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.works: Callable[[], bool] = lambda: True

    def raise_(self, pid: int) -> bool:
        worker = self._sim.alive(pid)
        worker.is_high = True  # in part, where it does not work
        works = self.works()
        self._sim.on_send(worker, "raise", "" if works else "in vain")
        return works

    def lower(self, pid: int) -> bool:
        worker = self._sim.alive(pid)
        works = self.works()
        worker.is_high = worker.is_high and not works
        self._sim.on_send(worker, "lower", "" if works else "in vain")
        return works


class Simulation:
    """An engine, its simulated workers, and what must always hold."""

    def __init__(self, nodes: int = 1, leads: int = 2, *, raises: bool = True, helpers: int = 2) -> None:
        self.loop = asyncio.get_running_loop()
        self.bugs: list[str] = []
        self.loop.set_exception_handler(lambda _, told: self.bugs.append(repr(told)))
        cpus = [frozenset(range(2 * nid, 2 * nid + 2)) for nid in range(nodes)]
        self.topology = Topology(tuple(Node(nid, some) for nid, some in enumerate(cpus)))
        self.full = Allowance({node.nid: helpers for node in self.topology.nodes}, leads, leads)
        self.registry = Registry(JobLimits(keep_s=KEEP_S), frozenset())
        self.dispatch = Dispatch(
            self.topology,
            self.full,
            PoolRequests(self._want_leads, self._want_helpers, self._admit),
            self,
            self.loop.time,
        )
        self.raiser = SimulatedRaiser(self)
        self.wall = self.loop.time
        self.engine = Engine(
            self.registry,
            self.dispatch,
            Patience(grace_s=2.0, fence_s=2.0, starvation_s=3.0),
            Clocks(lambda: self.wall(), self.loop.time),
            self.raiser if raises else None,
        )
        self.on_shorten: Callable[[SimulatedWorker], None] = lambda _: None
        """Called with a worker whose lease is about to be shortened, which may still claim a quantum."""
        self.on_send: Callable[[SimulatedWorker, str, str], None] = lambda *_: None
        """Called with each worker that is sent something: the verb, and what."""
        self.workers: list[SimulatedWorker] = []
        self._numbers = itertools.count(100)
        self.jobs: dict[int, Job] = {}
        self.written: dict[int, SpanSet] = {}
        self.guests_max = 2
        self._crew = [
            *(
                (WorkerClass.HELPER, node.nid, cpu)
                for node in self.topology.nodes
                for cpu in sorted(node.cpus)
            ),
        ]
        self._leads_wanted = 1
        self._helpers_wanted: Counter[int] = Counter()
        given = self.dispatch.on_join

        def on_join(worker: Worker, job: Job) -> None:
            given(worker, job)
            self._look_at_permits(worker)

        self.dispatch.on_join = on_join

    # -- the workers there are -------------------------------------------------------

    def _want_leads(self, count: int) -> None:
        self._leads_wanted = max(self._leads_wanted, count)

    def _want_helpers(self, nid: int, count: int) -> None:
        self._helpers_wanted[nid] = max(self._helpers_wanted[nid], count)

    def _admit(self, group: str, kind: WorkerClass, *, nid: int = -1, cpu: int = -1) -> Worker | None:
        if sum(bool(worker.memory_group) for worker in self.workers) >= self.guests_max:
            return None
        guest = SimulatedWorker(self, next(self._numbers), kind, nid, cpu)
        guest.memory_group = group
        self.workers.append(guest)
        return guest

    def fill(self) -> None:
        """Start whatever worker is missing, and let those get ready that start."""
        there = [
            (worker.worker_class, worker.nid, worker.born_on)
            for worker in self.workers
            if not worker.memory_group
        ]
        leads = [(WorkerClass.LEAD, -1, -1)] * self._leads_wanted
        spares = [
            (WorkerClass.HELPER, node.nid, sorted(node.cpus)[i % len(node.cpus)])
            for node in self.topology.nodes
            for i in range(len(node.cpus), self._helpers_wanted[node.nid])
        ]
        for kind, nid, cpu in [*self._crew, *spares, *leads]:
            if (kind, nid, cpu) in there:
                there.remove((kind, nid, cpu))
                continue
            self.workers.append(SimulatedWorker(self, next(self._numbers), kind, nid, cpu))
        for worker in list(self.workers):
            if not worker.is_ready and worker.state is not WorkerState.STOPPING:
                worker.is_ready, worker.state = True, WorkerState.IDLE
                self.on_ready(worker)

    def alive(self, pid: int) -> SimulatedWorker:
        """The worker of this pid, which must be one: a pid of the dead may be anybody's."""
        return next(worker for worker in self.workers if worker.pid == pid)

    def cpu_seconds(self, pid: int) -> float:
        return next((worker.cpu_seconds() for worker in self.workers if worker.pid == pid), 0.0)

    def state(self, pid: int) -> str:
        worker = next((worker for worker in self.workers if worker.pid == pid), None)
        if worker is None:
            return ""
        return "R" if worker.queue and worker.runnable else worker.asleep_as

    def bind(self, pid: int, cpus: frozenset[int]) -> bool:
        return True

    def set_priority(self, pid: int, priority: Priority) -> Mapping[str, OSError]:
        return {}

    # -- what they write ---------------------------------------------------------------

    def counts(self, jno: int) -> bool:
        return self.jobs[jno].checked.declaration.combine

    def touch(self, jno: int, start: int, end: int, *, undo: bool = False) -> None:
        job = self.jobs[jno]
        reason = job.error.reason if job.error else ""
        assert not job.state.ended or reason == "WORKER_STUCK", "a source is touched after the end"
        if job.checked.declaration.writes and start < end:
            (self.written[jno].remove if undo else self.written[jno].add)(start, end)

    # -- as of Listener -----------------------------------------------------------------

    def on_ready(self, worker: Worker) -> None:
        self.engine.on_ready(worker)
        self.look()

    def on_done(self, worker: Worker, done: Done) -> None:
        self.engine.on_done(worker, done)
        self.look()

    def on_report(self, worker: Worker, report: Report) -> None:
        self.engine.on_report(worker, report)
        self.look()

    def on_dead(self, worker: Worker, death: Death) -> None:
        self.engine.on_dead(worker, death)
        self.look()

    # -- jobs ------------------------------------------------------------------------------

    def submit(
        self,
        declaration: Declaration = READER,
        total: int = 40,
        *,
        waited: bool = True,
        threads: int = 3,
        chunk: int = 10,
        uid: int = 1,
        pid: int = 1,
        quota: float = 0.0,
        guest: bool = False,
        nids: tuple[int, ...] = (-1,),
    ) -> Job:
        """Accept and begin a job over `total` positions, in equal parts for each of `nids`."""
        spec = JobSpec(declaration.name)
        checked = CheckedJob(declaration, {}, (RangeSpec(0, total),), True, False, declaration.undo)
        each = total // len(nids)
        shares = tuple(NodePart(i * each, (i + 1) * each, nid) for i, nid in enumerate(nids))
        plan = Plan(shares, threads, chunk, 1, 1, chunk, wanted=threads)
        who = Identity(uid, uid, pid, nid=0, cpu_quota=quota)
        job = self.engine.accept(spec, checked, who, Sources(), plan)
        self.jobs[job.jno], self.written[job.jno] = job, SpanSet()
        job.guest.limit = GROUP if guest else None
        if waited:
            self.engine.guard(job)
        self.engine.launch(job)
        self.look()
        return job

    def set_quota(self, job: Job, quota: float) -> None:
        self.engine.set_caller(job, Caller(frozenset(), 0, quota))
        self.look()

    def describe(self, job: Job) -> str:
        """The state of a job that is stuck, for the message."""
        crew, left = job.crew, job.left
        hands = [(one.id, one.state.value, one.queue) for one in crew.held]  # type: ignore[attr-defined]
        return (
            f"job {job.jno} {job.checked.declaration.name} {job.state.value} guards={job.guards} "
            f"left={left} crew={hands} call={crew.step_worker} step={job.step} "
            f"to_duplicate={len(crew.to_duplicate)} paced={job.paced_until_s} queues={job.queues} "
            f"guest={job.guest}"
        )

    # -- what must always hold -----------------------------------------------------------------

    def look(self) -> None:
        assert not self.bugs, self.bugs
        allowance, crews = self.dispatch.allowance, self.dispatch.job_of
        busy = Counter(worker.nid for worker in crews if not worker.is_lead)
        assert all(busy[nid] == self.dispatch.roster.busy_helpers(nid) for nid in allowance.helpers)
        assert sum(worker.is_lead for worker in crews) == self.dispatch.roster.busy_leads
        assert self.dispatch.roster.busy_leads <= self.full.leads + BLOCKED_MAX
        for worker in self.workers:
            held = {seq for seq, *_ in worker.queue}
            job = crews.get(worker)
            known = set(job.crew.held.get(worker, ())) if job is not None else set()
            if job is not None and job.crew.step_worker is worker:
                known.add(job.crew.step_seq)
            given_up = worker.state is WorkerState.STOPPING and job is None
            astray = job is None and worker.holds_only_empty
            assert held == known or given_up or astray, "the engine and a worker do not agree"
            if worker.state is WorkerState.IDLE:
                assert job is None
        for job in self.jobs.values():
            self._look_at(job)

    def _look_at_permits(self, worker: Worker) -> None:
        """A worker that is given something has a permit."""
        allowance, dispatch = self.dispatch.allowance, self.dispatch
        if worker.is_lead:
            assert dispatch.leads.holders.active_total <= allowance.leads
        else:
            assert dispatch.helpers.holders.active(worker.nid) <= allowance.helpers[worker.nid]

    def _look_at(self, job: Job) -> None:
        crew = job.crew
        workers = crew.helpers | ({crew.lead} if crew.lead else set())
        assert workers == {worker for worker, other in self.dispatch.job_of.items() if other is job}
        if job.state.ended:
            assert not workers
            self._look_at_end(job)
        elif job.state is JobState.RUNNING:
            chunks = {h for chunks in crew.held.values() for h in chunks.values() if not h.void}
            once = [h for h in chunks if h.twin is None or h.worker.is_lead]
            held = sum(h.chunk.end - h.chunk.start for h in once)
            assert job.completed + held + job.left == job.plan.total, "a position is lost"
            assert all(h.twin is None or h.twin.twin is h for h in chunks)

    def _look_at_end(self, job: Job) -> None:
        if job.state is JobState.SUCCEEDED:
            assert view.progress(job).positions_done == view.progress(job).positions_total
            if job.checked.declaration.combine:
                assert job.result == {"n": view.progress(job).positions_total}
            return
        left = SpanSet(self.written[job.jno])
        for span in job.positions.dirty:
            left.remove(span.start, span.end)
        assert not left, f"neither undone nor dirty: {tuple(left)}"


def play(story: Callable[[Simulation], Coroutine[Any, Any, None]], **setting: Any) -> None:
    """Act a story on a sim, then see that nothing is left that would wake anybody up."""

    async def whole() -> None:
        sim = Simulation(**setting)
        await story(sim)
        sim.look()
        if not sim.registry.unended:
            await asyncio.sleep(30 + KEEP_S)
            assert not pending(sim.loop), "an idle daemon wakes up"
        sim.engine.close()
        assert not sim.bugs, sim.bugs

    with asyncio.Runner(loop_factory=LeapLoop) as runner:
        runner.run(whole())
