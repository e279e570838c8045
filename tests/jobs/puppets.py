"""An engine with workers that are puppets, on a loop whose time is the test's.

No process runs: a puppet holds what it was sent, and the test says what it does
with it. What it has written into the sources is noted, so that it can be seen
whether an undo took it all back.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ktaskd.host.caller import Caller
from ktaskd.jobs import starvation
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.job import Job
from ktaskd.jobs.registry import JobLimits, Registry
from ktaskd.model.allowance import Allowance
from ktaskd.model.checked import CheckedJob
from ktaskd.model.function import Access, Declaration, Partial, SourceRole
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.limits import BLOCKED_MAX
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.spans import SpanSet
from ktaskd.model.topology import Node, Topology
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.planner.plan import Plan, Share
from ktaskd.pool.link import Death, Worker
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, Note
from tests.jobs.leaploop import LeapLoop, pending

KEEP_S = 5.0

READER = Declaration("reader", "Reads.", partial=Partial.RERUN_SAFE, combine=True)
STEPS = Declaration("steps", "Reads in steps.", partial=Partial.RERUN_SAFE, combine=True, lifecycle=True)
_ROLE = SourceRole("data", Access.READ_WRITE, "What is written.")
WRITER = Declaration(
    "writer", "Writes.", partial=Partial.UNDO_TOLERATES, undo=True, writes_bytes=True, sources=(_ROLE,)
)
REWRITER = Declaration(
    "rewriter", "Writes the same.", partial=Partial.RERUN_SAFE, undo=True, writes_bytes=True, sources=(_ROLE,)
)
SLEEPER = Declaration("sleeper", "Sleeps in the caller's own code.", own=True)
GROUP = MemoryLimit(1 << 20, "/group", "/group")


class Puppet(Worker):
    """A worker without a process."""

    def __init__(self, stage: Stage, number: int, kind: WorkerClass, nid: int, cpu: int) -> None:
        super().__init__(number, kind, nid, cpu, memoryview(bytearray(64)).cast("Q"), stage, stage.gone)
        self.stage = stage
        self.pid = number
        self.born_on = cpu
        self.queue: list[tuple[int, str, int, Any]] = []
        """What it was sent and has not answered: (seq, "chunk" or an op, jno, span or payload)."""
        self.share, self.runnable = 1.0, True
        self.cpu_s, self.cpu_at_s = 0.0, stage.loop.time()
        self.asleep_as = "S"
        """The state that it is in where it is not runnable."""
        self.resumed = 0
        self.is_ready = self._killed = self.is_dead = self.is_high = False

    def cpu_seconds(self) -> float:
        now_s = self.stage.loop.time()
        self.cpu_s += (now_s - self.cpu_at_s) * self.share * bool(self.queue)
        self.cpu_at_s = now_s
        return self.cpu_s

    # -- what it is told ----------------------------------------------------------

    def send_chunk(self, jno: int, start: int, end: int, *, nid: int = -1, more: bool = False) -> int:
        assert not self.raised, "a raised helper is given work"
        assert self.state is WorkerState.BUSY
        self._seq += 1
        self.queue.append((self._seq, "chunk", jno, (start, end)))
        self._sent("chunk", f"{self._seq} of job {jno} [{start}, {end}) nid={nid} more={more}")
        return self._seq

    def send_call(self, jno: int, op: str, payload: dict[str, Any]) -> int:
        assert not self.raised, "a raised helper is given work"
        self._seq += 1
        self.queue.append((self._seq, op, jno, payload))
        what = json.dumps(payload, sort_keys=True, default=list)
        self._sent("step", f"{self._seq} of job {jno} {op} {what}")
        return self._seq

    def send_job(self, jno: int, body: dict[str, Any]) -> None:
        super().send_job(jno, body)
        self._sent("job", f"{jno} {json.dumps(body, sort_keys=True, default=dict)}")

    def forget_job(self, jno: int) -> None:
        super().forget_job(jno)
        self._sent("forget", f"job {jno}")

    def turn_to(self, uid: int) -> None:
        if not self.serves(uid):
            self._sent("wipe", f"for uid {uid}")
        super().turn_to(uid)

    def recall(self) -> None:
        super().recall()
        self._sent("recall", f"to {self._seq}")

    def _sent(self, verb: str, what: str = "") -> None:
        self.stage.on_send(self, verb, what)

    def kill(self, why: str = "") -> None:
        assert not self.is_dead
        self._why = self._why or why
        self._killed = True
        self._sent("kill", why)

    def resume(self) -> None:
        self.resumed += 1
        self._sent("resume")

    def stop(self) -> None:
        self._sent("stop")
        self.state = WorkerState.STOPPING

    # -- what it does ---------------------------------------------------------------

    @property
    def is_killed(self) -> bool:
        return self._killed

    @property
    def begun(self) -> bool:
        return bool(self.queue) and self.slot[frames.SLOT_SEQ] == self.queue[0][0]

    @property
    def recalled(self) -> bool:
        return bool(self.slot[frames.SLOT_RECALL] >= self.queue[0][0])

    def begin(self) -> None:
        seq, kind, _, what = self.queue[0]
        self.slot[frames.SLOT_SEQ] = seq
        self.slot[frames.SLOT_POSITION] = what[0] if kind == "chunk" else what.get("start", 0)

    def get_on(self, random: Random) -> None:
        """Get a bit further in what it has begun."""
        _, kind, jno, what = self.queue[0]
        if kind == "chunk" or kind == "undo":
            end = what[1] if kind == "chunk" else what["end"]
            before = self.slot[frames.SLOT_POSITION]
            after = self.slot[frames.SLOT_POSITION] = random.randint(before, end)
            self.stage.touch(jno, before, after, undo=kind == "undo")
        self.slot[frames.SLOT_BEATS] += 1

    def answer(self, *, whole: bool = True) -> None:
        """End what it has begun; not `whole` = give the rest back."""
        seq, kind, jno, what = self.queue.pop(0)
        if kind != "chunk":
            self._reply(seq, kind, jno, what)
            return
        start, end = what
        reached = end if whole else self.slot[frames.SLOT_POSITION]
        self.stage.touch(jno, self.slot[frames.SLOT_POSITION], reached)
        part = (
            json.dumps({"n": reached - start}).encode() if self.stage.counts(jno) and reached > start else b""
        )
        self.stage.on_done(self, Done(seq, reached, 2_000_000, part))

    def _reply(self, seq: int, op: str, jno: int, payload: Any) -> None:
        value: dict[str, Any] = {}
        if op == "combine":
            value = {"n": sum(part["n"] for part in payload["parts"])}
        elif op == "undo":
            self.stage.touch(jno, payload["start"], payload["end"], undo=True)
        self.stage.on_note(self, Note(frames.REPLY, seq, {"cpu_ns": 1000, "value": value}))

    def fail(self) -> None:
        """Raise in what it has begun, and clean up."""
        seq, kind, jno, what = self.queue.pop(0)
        if kind == "chunk":
            self.stage.touch(jno, *what, undo=True)
        self.stage.on_note(self, Note(frames.FAILED, seq, {"message": "it failed", "cpu_ns": 1000}))

    def die(self, status: int | None = 9) -> None:
        self.is_dead = True
        self.queue.clear()
        seq, position = self.position
        self.state, stopping = WorkerState.BACKOFF, self.state is WorkerState.STOPPING
        self._ended = True
        self.stage.workers.remove(self)
        self.stage.on_dead(
            self, Death(0 if stopping and not self._killed else status, seq, position, self._why)
        )


class Puller:
    """Raises and lowers puppets; the test says whether that works."""

    ways = ("a string",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.works: Callable[[], bool] = lambda: True

    def raise_(self, pid: int) -> bool:
        worker = self._stage.alive(pid)
        worker.is_high = True  # in part, where it does not work
        works = self.works()
        self._stage.on_send(worker, "raise", "" if works else "in vain")
        return works

    def lower(self, pid: int) -> bool:
        worker = self._stage.alive(pid)
        works = self.works()
        worker.is_high = worker.is_high and not works
        self._stage.on_send(worker, "lower", "" if works else "in vain")
        return works


class Stage:
    """An engine, its puppets, and what must always hold."""

    def __init__(self, nodes: int = 1, leads: int = 2, *, raises: bool = True, helpers: int = 2) -> None:
        self.loop = asyncio.get_running_loop()
        self.bugs: list[str] = []
        self.loop.set_exception_handler(lambda _, told: self.bugs.append(repr(told)))
        cpus = [frozenset(range(2 * nid, 2 * nid + 2)) for nid in range(nodes)]
        self.topology = Topology(tuple(Node(nid, some) for nid, some in enumerate(cpus)))
        self.full = Allowance({node.nid: helpers for node in self.topology.nodes}, leads, leads)
        self.registry = Registry(JobLimits(keep_s=KEEP_S), frozenset())
        self.dispatch = Dispatch(
            self.topology, self.full, self._want_leads, self.loop.time, self._want_helpers, self._admit
        )
        self.puller = Puller(self)
        self.engine = Engine(
            self.registry,
            self.dispatch,
            grace_s=2.0,
            fence_s=2.0,
            starvation_s=3.0,
            raiser=self.puller if raises else None,
            wall=self.loop.time,
            boot=self.loop.time,
        )
        self.on_send: Callable[[Puppet, str, str], None] = lambda *_: None
        """Called with each worker that is sent something: the verb, and what."""
        self.workers: list[Puppet] = []
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
        guest = Puppet(self, next(self._numbers), kind, nid, cpu)
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
            self.workers.append(Puppet(self, next(self._numbers), kind, nid, cpu))
        for worker in list(self.workers):
            if not worker.is_ready and worker.state is not WorkerState.STOPPING:
                worker.is_ready, worker.state = True, WorkerState.IDLE
                self.on_ready(worker)

    def alive(self, pid: int) -> Puppet:
        """The worker of this pid, which must be one: a pid of the dead may be anybody's."""
        return next(worker for worker in self.workers if worker.pid == pid)

    def cpu_seconds(self, pid: int) -> float:
        return next((worker.cpu_seconds() for worker in self.workers if worker.pid == pid), 0.0)

    def is_runnable(self, pid: int) -> bool:
        return next(
            (bool(worker.queue) and worker.runnable for worker in self.workers if worker.pid == pid), False
        )

    def state_of(self, pid: int) -> str:
        if self.is_runnable(pid):
            return "R"
        return next((worker.asleep_as for worker in self.workers if worker.pid == pid), "")

    def gone(self, worker: Worker, death: Death) -> None:
        raise AssertionError("a puppet has no process")

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

    def on_note(self, worker: Worker, note: Note) -> None:
        self.engine.on_note(worker, note)
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
        shares = tuple(Share(i * each, (i + 1) * each, nid) for i, nid in enumerate(nids))
        plan = Plan(shares, threads, chunk, 1, 1, chunk, wanted=threads)
        who = Identity(uid, uid, pid, nid=0, cpu_quota=quota)
        job = self.engine.accept(spec, checked, who, {}, (), plan)
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
        """What one should know of a job that is stuck."""
        crew, left = job.crew, job.left
        hands = [(one.id, one.state.value, one.queue) for one in crew.held]  # type: ignore[attr-defined]
        return (
            f"job {job.jno} {job.checked.declaration.name} {job.state.value} guards={job.guards} "
            f"left={left} crew={hands} call={crew.step_worker} calls={[call.op for call in job.calls]} "
            f"to_duplicate={len(crew.to_duplicate)} paced={job.paced_until_s} places={job.places} "
            f"guest={job.guest}"
        )

    # -- what must always hold -----------------------------------------------------------------

    def look(self) -> None:
        assert not self.bugs, self.bugs
        allowance, crews = self.dispatch.allowance, self.dispatch.job_of
        busy = Counter(worker.nid for worker in crews if not worker.is_lead)
        assert all(busy[nid] == self.dispatch.busy_helpers(nid) for nid in allowance.helpers)
        assert sum(worker.is_lead for worker in crews) == self.dispatch.busy_leads
        assert self.dispatch.busy_leads <= self.full.leads + BLOCKED_MAX
        for worker in self.workers:
            held = {seq for seq, *_ in worker.queue}
            job = crews.get(worker)
            known = set(job.crew.held.get(worker, ())) if job is not None else set()
            if job is not None and job.crew.step_worker is worker:
                known.add(job.crew.step_seq)
            given_up = worker.state is WorkerState.STOPPING and job is None
            assert held == known or given_up, "the engine and a worker do not agree"
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
            assert job.progress.positions_done == job.progress.positions_total
            if job.checked.declaration.combine:
                assert job.result == {"n": job.progress.positions_total}
            return
        left = SpanSet(self.written[job.jno])
        for span in job.positions.dirty:
            left.remove(span.start, span.end)
        assert not left, f"neither undone nor dirty: {tuple(left)}"


def play(story: Callable[[Stage], Coroutine[Any, Any, None]], **setting: Any) -> None:
    """Act a story on a stage, then see that nothing is left that would wake anybody up."""

    async def whole() -> None:
        stage = Stage(**setting)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(starvation, "read_cpu_seconds", stage.cpu_seconds)
            patch.setattr(starvation, "is_runnable", stage.is_runnable)
            patch.setattr("ktaskd.jobs.ending.read_cpu_seconds", stage.cpu_seconds)
            patch.setattr("ktaskd.jobs.ending.is_runnable", stage.is_runnable)
            patch.setattr("ktaskd.jobs.activity.read_cpu_seconds", stage.cpu_seconds)
            patch.setattr("ktaskd.jobs.activity.read_state", stage.state_of)
            patch.setattr("ktaskd.jobs.affinity.bind_to_cpus", lambda *_: True)
            patch.setattr("ktaskd.jobs.helpers.bind_to_cpus", lambda *_: True)
            await story(stage)
            stage.look()
            if not stage.registry.unended:
                await asyncio.sleep(30 + KEEP_S)
                assert not pending(stage.loop), "an idle daemon wakes up"
            stage.engine.close()
            assert not stage.bugs, stage.bugs

    with asyncio.Runner(loop_factory=LeapLoop) as runner:
        runner.run(whole())
