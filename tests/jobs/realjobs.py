"""The jobs of one daemon, with real pools, without its doors.

After everything that a worker says, RealJobs looks whether what must always
hold does hold.

Guards: I3
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ktaskd.door.handoff.handles import HandleTable
from ktaskd.door.handoff.keepers import Keepers
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.host.caller import read_caller
from ktaskd.host.processes.incarnation import Incarnation
from ktaskd.host.root import HostRoot
from ktaskd.intake.opening import Opener, Rights
from ktaskd.intake.submit import Conditions, Intake
from ktaskd.jobs import ports
from ktaskd.jobs.callers import Callers
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.engine import Engine
from ktaskd.jobs.job import Job
from ktaskd.jobs.kernel import HostKernel
from ktaskd.jobs.patience import Clocks, Patience
from ktaskd.jobs.ports import Kernel, PoolRequests, Raiser
from ktaskd.jobs.registry import JobLimits, Registry
from ktaskd.model.allowance import Allowance
from ktaskd.model.function import Access, Declaration
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobSpec, JobState, SourceRef
from ktaskd.model.limits import BLOCKED_MAX, SPARE_HELPERS
from ktaskd.model.memory import MemoryLimit
from ktaskd.model.topology import Node, Topology
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.pool.guests import GuestPool
from ktaskd.pool.link import Worker
from ktaskd.pool.pool import Pool, PoolSpec
from ktaskd.worker.frames import Done
from ktaskd.worker.messages import Report
from tests.support.sources import facts_of

CPUS = tuple(sorted(os.sched_getaffinity(0)))
UID = os.geteuid()
ME = Identity(UID, os.getegid(), os.getpid(), nid=0)
STRANGER = Identity(UID + 1, os.getegid() + 1, 1, nid=0)

MIB = 1 << 20
PATIENCE_S = 50.0
"""When a test that will never pass gives up."""


@dataclass(frozen=True)
class Setting:
    """How it is built. There is one helper for each CPU; `nodes` has the CPUs of each node."""

    nodes: tuple[tuple[int, ...], ...] = (CPUS[:2],)
    helpers: int = 2
    leads: int = 2
    leads_per_uid: int = 2
    grace_s: float = 20.0
    fence_s: float = 20.0
    starvation_s: float = 0.0
    raiser: Raiser | None = None
    kernel: Kernel = field(default_factory=HostKernel)
    limits: JobLimits = field(default_factory=JobLimits)


class Memory:
    """A memfd of the test, and the handle that jobs name it by."""

    def __init__(self, fd: int, ref: SourceRef) -> None:
        self.fd = fd
        self.ref = ref

    def read(self) -> bytes:
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)


class RealJobs:
    """Everything that jobs need, put together."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        nodes = tuple(Node(nid, frozenset(cpus)) for nid, cpus in enumerate(setting.nodes))
        self.topology = Topology(nodes)
        helpers = {node.nid: min(setting.helpers, len(node.cpus)) for node in nodes}
        allowance = Allowance(helpers, setting.leads, setting.leads_per_uid)
        self.now_s = 0.0
        """Added to the wall clock."""
        self.registry = Registry(setting.limits, frozenset({0}))
        self.dispatch = Dispatch(
            self.topology,
            allowance,
            PoolRequests(self._want_leads, self._want_helpers, self._admit),
            setting.kernel,
            self._wall,
        )
        self.engine = Engine(
            self.registry,
            self.dispatch,
            Patience(setting.grace_s, setting.fence_s, starvation_s=setting.starvation_s),
            Clocks(self._wall),
            setting.raiser,
        )
        self._watch_permits()
        numbers = itertools.count(1)
        self.pools: list[Pool] = [Pool(spec, self, lambda: next(numbers)) for spec in self._specs(nodes)]
        self.leads = self.pools[-1]
        guests = PoolSpec("guests", WorkerClass.LEAD, -1, CPUS, 0, 0)
        self.guests = GuestPool(guests, self, lambda: next(numbers))
        root = HostRoot()
        self.callers = Callers(
            lambda pid: read_caller(root, pid, self.topology),
            lambda who: Incarnation(root, who.pid, who.pidfd, who.start_ticks),
            self.engine.set_caller,
        )
        self.handles = HandleTable(per_uid=100_000, on_gone=self.engine.forget_source)
        self.keepers = Keepers(on_gone=self.engine.forget_source)
        rights = Rights(frozenset({0}))
        opener = Opener(self.handles, self.keepers, rights)
        conditions = Conditions(self, self.callers)
        self.intake = Intake(self.engine, CATALOGUE, opener, self.topology, rights, conditions)
        self.limit_all: Callable[[Identity], MemoryLimit | None] = lambda _: None
        """Says whose jobs must run in their own memory cgroup."""
        self.deaths: list[Death] = []
        self.most_helpers: Counter[int] = Counter()
        self.bugs: list[str] = []
        self._changed = asyncio.Event()
        self._fds: list[int] = []

    def _wall(self) -> float:
        return time.time() + self.now_s

    def _specs(self, nodes: tuple[Node, ...]) -> Iterator[PoolSpec]:
        for node in nodes:
            cpus = tuple(sorted(node.cpus))
            if cpus:
                size = len(cpus)
                most = size + SPARE_HELPERS
                yield PoolSpec(f"node{node.nid}", WorkerClass.HELPER, node.nid, cpus, most, size)
        yield PoolSpec("leads", WorkerClass.LEAD, -1, CPUS, self.setting.leads + BLOCKED_MAX, 1)

    def _want_leads(self, count: int) -> None:
        self.leads.ensure(count)

    def _want_helpers(self, nid: int, count: int) -> None:
        for pool in self.pools:
            if pool.spec.nid == nid:
                pool.ensure(count)

    def _admit(self, group: str, worker_class: WorkerClass, *, nid: int = -1, cpu: int = -1) -> Worker | None:
        return self.guests.admit(group, worker_class, nid=nid, cpu=cpu)

    def reads_unpaid(self, who: Identity) -> bool:
        return self.unpaid

    unpaid = False

    def limit_for(self, declaration: Declaration, who: Identity) -> MemoryLimit | None:
        """As of CallerMemory: what limits whoever asks for anything."""
        return self.limit_all(who)

    # -- what workers say --------------------------------------------------------

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
        self.deaths.append(death)
        self.engine.on_dead(worker, death)
        self.look()

    # -- what must always hold -----------------------------------------------------

    def look(self) -> None:
        self._look_at_workers()
        for job in self.registry:
            self._look_at_job(job)
        self._changed.set()

    def _look_at_workers(self) -> None:
        allowance, crews = self.dispatch.allowance, self.dispatch.job_of
        busy = Counter(worker.nid for worker in crews if not worker.is_lead)
        leads = Counter(job.owner.uid for worker, job in crews.items() if worker.is_lead)
        for nid, count in busy.items():
            self.most_helpers[nid] = max(self.most_helpers[nid], count)
            assert count <= allowance.helpers[nid] or self.dispatch.helpers.holders.blocked, (
                "too many helpers"
            )
            assert count == self.dispatch.roster.busy_helpers(nid)
        if not self.dispatch.leads.holders.blocked:
            assert leads.total() <= allowance.leads, "more leads than allowed"
            assert all(count <= allowance.leads_per_uid for count in leads.values())
        assert leads.total() == self.dispatch.roster.busy_leads
        for pool in (*self.pools, self.guests):
            for worker in pool.workers:
                busy_now = worker.state is WorkerState.BUSY
                astray = worker in self.dispatch.strays._timers
                known = worker in crews or astray
                assert busy_now == known or worker.state is WorkerState.STOPPING

    def _watch_permits(self) -> None:
        given = self.dispatch.on_join

        def on_join(worker: ports.Worker, job: Job) -> None:
            given(worker, job)
            self._look_at_permits(worker)

        self.dispatch.on_join = on_join

    def _look_at_permits(self, worker: ports.Worker) -> None:
        """A worker that is given something has a permit."""
        allowance, dispatch = self.dispatch.allowance, self.dispatch
        if worker.is_lead:
            assert dispatch.leads.holders.active_total <= allowance.leads, "more leads than allowed"
        else:
            active = dispatch.helpers.holders.active(worker.nid)
            assert active <= allowance.helpers[worker.nid], "more helpers than allowed"

    def _look_at_job(self, job: Job) -> None:
        crew = job.crew
        workers = crew.helpers | ({crew.lead} if crew.lead else set())
        assert workers == {worker for worker, other in self.dispatch.job_of.items() if other is job}
        assert set(crew.held) <= workers
        if job.state.ended:
            assert not workers, "somebody holds something of an ended job"
            assert not job.sources
            assert not job.items
        elif job.state is JobState.RUNNING:
            # A chunk that two workers hold counts once, and one that the other has done not at all.
            chunks = {h for chunks in crew.held.values() for h in chunks.values() if not h.void}
            once = [h for h in chunks if h.twin is None or h.worker.is_lead]
            held = sum(h.chunk.end - h.chunk.start for h in once)
            assert job.completed + held + job.left == job.plan.total, "a position is lost"
            assert all(h.twin is None or h.twin.twin is h for h in chunks)
            # A lead that runs what a starved helper still holds is one more for a while.
            assert len({h.worker for h in once}) <= job.plan.wanted, "more workers than planned"

    # -- for tests ---------------------------------------------------------------

    def memory(self, content: bytes | int, *, uid: int = UID, access: Access = Access.READ_WRITE) -> Memory:
        """Memory with this content, or so much of it, handed over."""
        fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._fds.append(fd)
        if isinstance(content, bytes):
            os.write(fd, content)
        else:
            os.truncate(fd, content)
        facts = replace(facts_of(fd, access=access), own_offset=True)
        return Memory(fd, SourceRef(handle=self.handles.add(uid, 1, os.dup(fd), facts)))

    async def submit(self, spec: JobSpec, *, waited: bool = True, who: Identity = ME) -> Job:
        job, guards = await self.intake.submit(spec, who, guarded=waited)
        assert guards == waited
        self.look()
        return job

    async def run(self, spec: JobSpec, *, waited: bool = True, who: Identity = ME) -> Job:
        job = await self.submit(spec, waited=waited, who=who)
        await self.ended(job)
        return job

    async def ended(self, *jobs: Job) -> None:
        await self.until(lambda: all(job.state.ended for job in jobs))
        for job in jobs:
            if job.guards:
                self.engine.unguard(job)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that workers bring about, or time in the engine."""
        while not condition():
            self._changed.clear()
            try:
                async with asyncio.timeout(0.01):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def state(self, job: Job) -> JobState:
        """Its state now; a checker of types does not see that time goes by."""
        return job.state

    def holders(self, job: Job) -> list[ports.Worker]:
        """Workers that have begun a chunk or a call of the job."""
        found = []
        for worker in job.crew.busy:
            seq = worker.position[0]
            if seq in job.crew.held.get(worker, {}) or seq == job.crew.step_seq:
                found.append(worker)
        return found

    async def begun(self, job: Job) -> ports.Worker:
        """Wait until a worker works on the job, which must not end before that is seen."""
        await self.until(lambda: self.holders(job) or job.state.ended)
        return self.holders(job)[0]

    @property
    def at_rest(self) -> bool:
        """Whether all workers that should be there are, and have nothing to do."""
        ready = [[w for w in pool.workers if w.state is WorkerState.IDLE] for pool in self.pools]
        return all(len(workers) >= pool.spec.warm for workers, pool in zip(ready, self.pools, strict=True))

    async def _close(self) -> None:
        for job in self.registry:
            self.engine.cancel(job)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.until(lambda: not self.registry.unended)
        self.handles.drop_connection(1)
        self.engine.close()
        self.callers.close()
        await asyncio.gather(*(pool.close(10.0) for pool in (*self.pools, self.guests)), self.keepers.close())
        for fd in self._fds:
            os.close(fd)


@asynccontextmanager
async def real_jobs(setting: Setting | None = None, **changes: Any) -> AsyncIterator[RealJobs]:
    """Real jobs whose warm workers are ready; closed with all jobs cancelled."""
    built = RealJobs(replace(setting or Setting(), **changes))
    asyncio.get_running_loop().set_exception_handler(lambda _, told: built.bugs.append(repr(told)))
    for pool in built.pools:
        pool.start()
    try:
        await built.until(lambda: built.at_rest)
        yield built
    finally:
        await built._close()
    assert not built.bugs, built.bugs


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test, for as long as it may take."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await test

    asyncio.run(bounded())


class SharedJobs:
    """Real jobs for many examples of one test; each is a run of the same loop."""

    def __init__(self, runner: asyncio.Runner, opened: RealJobs) -> None:
        self._runner = runner
        self.jobs = opened

    def run(self, example: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await example
            assert not self.jobs.bugs

        self._runner.run(bounded())


@contextmanager
def shared_jobs(**changes: Any) -> Iterator[SharedJobs]:
    """Real jobs outside of a coroutine, for hypothesis."""
    with asyncio.Runner() as runner:

        async def enter() -> tuple[Any, RealJobs]:
            manager = real_jobs(**changes)
            return manager, await manager.__aenter__()

        manager, opened = runner.run(enter())
        try:
            yield SharedJobs(runner, opened)
        finally:
            runner.run(manager.__aexit__(None, None, None))
