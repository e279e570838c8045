"""Gives chunks and steps of jobs to workers: users in turn, and the jobs of one user in order.

Workers pull: each holds only the chunk that it works on, or a few more if chunks are short. So a
lower allowance takes effect by giving out nothing more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from ktaskd.jobs.demand import Demand
from ktaskd.jobs.eligibility import may_have_lead
from ktaskd.jobs.feed import Feeder, introduce, renewed
from ktaskd.jobs.guests import Guests
from ktaskd.jobs.job import Job
from ktaskd.jobs.leases import Leases
from ktaskd.jobs.pauses import Pauses
from ktaskd.jobs.ports import Kernel, PoolRequests, Worker
from ktaskd.jobs.resting import Resting, recall_surplus
from ktaskd.jobs.roster import Roster
from ktaskd.jobs.standins import StandIns
from ktaskd.jobs.strays import Strays
from ktaskd.model.allowance import Allowance
from ktaskd.model.job import JobState
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.topology import Topology
from ktaskd.model.worker import WorkerClass, WorkerState

GUEST_RETRY_S = 1.0
"""Retry delay after a guest failed to start."""


class Dispatch:
    """Hands chunks and steps to workers.

    Attributes:
        roster: the existing workers, and which of them are busy.
        demand: the jobs that want workers.
        strays: helpers that have no job and have not answered yet.
        capacity: the largest number of helpers, by node, whatever is allowed now.
        on_start: called with a job that begins.
        on_join: called with a worker that begins to work for a job.
        on_crew: called with a job that a worker has joined or left.
        on_left: called with a worker that holds nothing any more, or rests.
        on_awake: called with a worker that rested and continues.
        on_departure: called with a living worker that was asked to end after its work for a job.
        on_contended: called while jobs wait for workers that other jobs hold and that may use no CPU.
    """

    def __init__(
        self,
        topology: Topology,
        allowance: Allowance,
        pools: PoolRequests,
        kernel: Kernel,
        wall: Callable[[], float],
    ) -> None:
        """Start without workers and jobs.

        Args:
            wall: seconds since the epoch.
        """
        self.kernel = kernel
        self.capacity = allowance.helpers
        self.on_start: Callable[[Job], None] = lambda _: None
        self.on_join: Callable[[Worker, Job], None] = lambda _, __: None
        self.on_crew: Callable[[Job], None] = lambda _: None
        self.on_left: Callable[[Worker], None] = lambda _: None
        self.on_awake: Callable[[Worker, Job], None] = lambda _, __: None
        self.on_departure: Callable[[Worker, Job], None] = lambda _, __: None
        self.on_contended: Callable[[], None] = lambda: None
        self._wall = wall
        self._topology = topology
        self.roster = Roster(topology, allowance, pools, kernel, self.pump)
        self.demand = Demand(self.roster)
        # These are used for each chunk; direct attributes save a call.
        self.job_of, self.leads, self.helpers = self.roster.job_of, self.roster.leads, self.roster.helpers
        self.shares = self.demand.shares
        self.want, self.unwant, self.refresh = self.demand.want, self.demand.unwant, self.demand.refresh
        self.cooldowns = self.helpers.cooldowns
        self.stand_ins = StandIns(kernel.set_priority)
        self.resting = Resting(
            self.roster, self.demand, lambda worker: self.on_left(worker),
            lambda worker, job: self.on_awake(worker, job), self.pump,
        )  # fmt: skip
        self.strays = Strays(self._leave, self._add_idle)
        self._pauses = Pauses(wall, self._go_on)
        self.pacer = self._pauses.pacer
        self._pumping: asyncio.Handle | None = None
        self.leases = Leases(self._workers_of, self.helpers.has_free, self.demand.is_alone)
        self.demand.may_divide = self.leases.may_divide
        self._feeder = Feeder(self.shares, self.helpers.has_free, self.leases, self.demand.is_alone)
        self._guests = Guests(pools.admit)
        self._guest_retry: asyncio.TimerHandle | None = None  # set while no guest is available

    @property
    def allowance(self) -> Allowance:
        """How many workers may work now."""
        return self.roster.allowance

    def set_allowance(self, allowance: Allowance, unrescued: Iterable[Job] = ()) -> None:
        """Change the allowance; surplus workers give their chunks back. `unrescued` jobs lose their lead."""
        before, self.roster.allowance = self.roster.allowance, allowance
        if allowance.duty > before.duty:
            self.cooldowns.end_duty_pause()
        self.demand.refresh_all(unrescued)
        holders = self.helpers.holders
        surplus = Counter({nid: holders.blocked_on(nid) for nid in self.capacity})
        # Blocked helpers use no CPU now, but may at any moment.
        surplus.update({nid: holders.active(nid) - allowance.helpers.get(nid, 0) for nid in self.capacity})
        recall_surplus(self.job_of, surplus, allowance, every=allowance.duty < before.duty)
        self.pump()

    def shrink(self, job: Job) -> None:
        """Recall surplus helpers of a job that may hold fewer workers than before."""
        for worker in sorted(job.crew.helpers, key=lambda worker: worker.id)[max(job.helpers_max, 0) :]:
            worker.recall()
        lead = job.crew.lead
        if lead is not None and job.has_leases and job.caller.cpu_quota:
            lead.recall()  # its next lease is short, to keep to the quota
        job.paced_until_s = 0.0  # if it still has to wait, the next look finds that out
        self.stand_ins.follow(job)
        self.refresh(job)
        if self._pumping is None:
            # Pump once for all jobs of a caller, which may have thousands.
            self._pumping = asyncio.get_running_loop().call_soon(self._pump_once)

    def _pump_once(self) -> None:
        self._pumping = None
        self.roster.place_leads()
        self.pump()

    # -- workers come and go --------------------------------------------------------

    def add(self, worker: Worker) -> None:
        """Note a worker that became ready."""
        self.roster.enroll(worker)
        self._add_idle(worker)

    def _add_idle(self, worker: Worker) -> None:
        self.roster.add_idle(worker)
        if worker.memory_group and (job := self.job_of.get(worker)) is not None:
            # A guest that is ready has its job already.
            worker.state = WorkerState.BUSY
            self.roster.place_leads()
            self._start(worker, job)

    def remove(self, worker: Worker) -> None:
        """Drop a worker that is dead or must not be used again."""
        self.roster.forget_idle(worker)
        self.strays.forget(worker)
        self._leave(worker)
        self._guests.forget(worker)
        self.roster.forget(worker)

    def _join(self, worker: Worker, job: Job) -> None:
        if self.job_of.get(worker) is job:
            return
        self.shares.hold(job.owner.uid)
        self.roster.begin(worker, job)
        if worker.is_lead:
            job.lead_limited_s = 0.0
        for concerned in self.demand.disks.join(job):
            self.refresh(concerned)
        if worker.is_lead:
            self.demand.disks.make_room(job, self.job_of)
        self.roster.place_leads()
        if job.state is JobState.QUEUED:
            self.on_start(job)
        self.on_join(worker, job)
        self.on_crew(job)

    def _leave(self, worker: Worker) -> None:
        job = self.job_of.get(worker)
        if job is None:
            return
        self.resting.leave(worker, job)
        self.roster.end(worker, job)
        cost_s, chunks = job.tally.cpu_s, job.tally.chunks_done
        self.shares.let_go(job.owner.uid, cost_s / chunks if chunks else 0.0)
        self.on_left(worker)
        for concerned in self.demand.disks.leave(job):
            self.refresh(concerned)
        self.roster.place_leads()
        self.on_crew(job)

    def release(self, worker: Worker) -> None:
        """Free a worker that holds nothing of its job any more."""
        job = self.job_of.get(worker)
        self._leave(worker)
        if worker.state is WorkerState.BUSY and not worker.ends_with_its_job():
            self._add_idle(worker)
        elif worker.tainted and job is not None:
            self.on_departure(worker, job)

    # -- giving -----------------------------------------------------------------------

    def pump(self) -> None:
        """Give out everything that can be given out now."""
        self._give_leads()
        self._give_guest_helpers(in_turn=True)
        self._give_helpers()
        self._give_guest_helpers(in_turn=False)
        self._give_steps_to_leads()
        if self.demand.for_helpers or self.demand.for_steps:
            self.helpers.want(self.demand.for_helpers, len(self.demand.for_steps), self._may_help)
        if self.demand.leads_are_contended or self.demand.helpers_are_contended:
            self.on_contended()

    def next(self, worker: Worker, job: Job) -> bool:
        """Give a worker the next chunk of its job if it is the job's turn; return whether it has work."""
        if not (self.demand.is_its_turn(worker, job) and self._may_go_on(worker, job)):
            return False
        self._feed(worker, job)
        # A worker that got nothing leaves: the remainder of the job is another node's.
        return worker in self.job_of

    def may_keep(self, worker: Worker, job: Job) -> bool:
        """Whether a worker may continue with its lease, as it might begin another one."""
        return self.demand.has_turn(worker, job) and self._may_go_on(worker, job)

    def _may_go_on(self, worker: Worker, job: Job) -> bool:
        if worker.is_lead:
            return self._lead_may_go_on(worker, job)
        # A client may have begun to wait for the job: then one of its workers has to be a lead.
        fits = not self.helpers.is_over(worker.nid) and len(job.crew.helpers) <= job.helpers_max
        return fits and not self.demand.disks.over(job) and not self._lead_comes(job)

    def _lead_may_go_on(self, lead: Worker, job: Job) -> bool:
        fits = lead.has_priority_for(job.caller.priority) and not self.leads.is_over(
            job, self.roster.allowance
        )
        may = fits and may_have_lead(job, self.roster.allowance.level)
        return may and not self._pauses.hold_back(job)

    def _lead_comes(self, job: Job) -> bool:
        """Whether a job of one worker had to use a helper instead of a lead, and a lead is free now."""
        if not job.lead_limited_s or len(job.crew.helpers) < job.threads:
            return False
        return may_have_lead(job, self.roster.allowance.level) and self._lead_allowed(job)

    def _go_on(self, job: Job) -> None:
        self.refresh(job)
        self.pump()

    def _send_step(self, worker: Worker, job: Job) -> None:
        step = job.begin_step()
        self._join(worker, job)
        introduce(worker, self.roster[worker], job)
        job.crew.step_worker = worker
        job.crew.step_seq = worker.send_step(job.jno, step.op, step.payload)
        self.refresh(job)

    def step_ended(self, worker: Worker, job: Job) -> None:
        """Note that a worker has answered a step."""
        job.crew.step_worker = None
        self.release(worker)

    def _lead_allowed(self, job: Job) -> bool:
        return self.leads.may_begin(job, self.roster.allowance)

    def _give_leads(self) -> None:
        """Give leads to waited jobs and to undos, the uid that had the least CPU time first."""
        while job := self._next_for_lead():
            if job.in_guest:
                self._give_guest(job, WorkerClass.LEAD)
                continue
            if not self.leads.idle:
                self.leads.want(len(self.demand.for_leads), self.roster.allowance)
                return
            self._start(self.leads.pick(job), job)

    def _next_for_lead(self) -> Job | None:
        """Return the next job that gets a lead; update the queues of jobs that may not have one now."""
        hold_back = self._pauses.hold_back
        while (jobs := self._turns_for_leads()) and jobs[0].step is None and hold_back(jobs[0]):
            self.refresh(jobs[0])  # its caller's earlier jobs have used up the quota
        for job in jobs:
            if self._lead_allowed(job) and (job.step is not None or not hold_back(job)):
                return job
            if job.step is None and not job.paced_until_s and not job.lead_limited_s:
                job.lead_limited_s = self._wall()
                self.refresh(job)  # it may have a helper instead
        return None

    def _turns_for_leads(self) -> list[Job]:
        """Return the next job of each uid, the uid that had the least CPU time first."""
        steps = self.demand.for_steps.firsts() if self.leads.idle else []
        jobs = [job for job in steps if job.has_lead or job.state is JobState.UNDOING]
        jobs += self.demand.for_leads.firsts()
        jobs += self.demand.for_guest_leads.firsts() if self._guest_retry is None else []
        return sorted(jobs, key=self.demand.turn)

    def _give_steps_to_leads(self) -> None:
        """Give leads the steps that no helper is free for; start leads for them if none is idle."""
        jobs = self.demand.for_steps.firsts() if not self.leads.idle else []
        if any(job.has_lead or job.state is JobState.UNDOING for job in jobs):
            self.leads.want(len(self.demand.for_steps), self.roster.allowance)
        while self.leads.idle and self.demand.for_steps:
            job = next(filter(self._lead_allowed, self.demand.for_steps.firsts()), None)
            if job is None:
                return
            self._start(self.leads.pick(job), job)

    # -- guests ---------------------------------------------------------------------

    def _give_guest(self, job: Job, worker_class: WorkerClass, nid: int = NUMA_NO_NODE) -> None:
        """Give a job its guest, which counts as busy from here on, ready or not."""
        worker = self._guests.engage(job, worker_class, nid, self.roster.quietest_cpu(nid))
        if worker is None:
            # That this changes need not be seen by any event; nobody else waits for it.
            self._guest_retry = asyncio.get_running_loop().call_later(GUEST_RETRY_S, self._retry_guests)
            return
        if worker.state is WorkerState.IDLE:
            self._start(worker, job)
        else:
            self._join(worker, job)

    def _retry_guests(self) -> None:
        self._guest_retry = None
        self.pump()

    def _give_guest_helpers(self, *, in_turn: bool) -> None:
        """Give guests to jobs that nobody waits for, in addition to or instead of other helpers."""
        for job in self.demand.for_guest_helpers.firsts():
            rival = self.demand.for_helpers.first
            if in_turn and rival is not None and self.demand.turn(rival) < self.demand.turn(job):
                continue
            wanted = sorted(self._topology.nodes, key=lambda node: node.nid != job.owner.nid)
            if job.guest.worker is not None and not job.guest.worker.is_lead:
                wanted = [node for node in wanted if node.nid == job.guest.worker.nid]
            nid = next((node.nid for node in wanted if self.helpers.has_room(node.nid)), None)
            if nid is not None and self._guest_retry is None:
                self._give_guest(job, WorkerClass.HELPER, nid)

    def dismiss_guest(self, job: Job) -> None:
        """Let the guest of a job end; it holds nothing and the job needs it no longer."""
        guest = job.guest.worker
        if guest is not None:
            self._leave(guest)
            self._guests.dismiss(job)
            if guest.tainted:
                self.on_departure(guest, job)

    def _give_helpers(self) -> None:
        # Again: with what was given a node may have nothing free left, so that others help it.
        while self._give_some_helpers():
            pass

    def _give_some_helpers(self) -> bool:
        """Give each free helper work if there is any; return whether any got some."""
        given = False
        for worker in self.helpers.free():
            if not self.demand.for_helpers and not self.demand.for_steps:
                return False
            if not self.helpers.has_room(worker.nid):
                continue
            jobs = [job for job in (self.demand.for_steps.first, self._job_for(worker)) if job is not None]
            if jobs:
                self._start(worker, min(jobs, key=self.demand.turn))
                given = given or worker in self.job_of
        return given

    def _workers_of(self, job: Job) -> int:
        """Return how many workers a job may have now, as far as is known."""
        helpers = min(job.helpers_max, sum(map(self.helpers.allowed, self.roster.allowance.helpers)))
        return min(job.has_lead + helpers, job.threads)

    def _may_help(self, job: Job, nid: int) -> bool:
        """Whether a job has work for a helper of a node."""
        takes = job.positions.may_take(nid, lead=False, has_free=self.helpers.has_free)
        takes = takes or self.leases.may_divide(job, nid, lead=False)
        return takes and self.helpers.may_begin(job, nid)

    def _job_for(self, worker: Worker) -> Job | None:
        return next((job for job in self.demand.for_helpers if self._may_help(job, worker.nid)), None)

    def _start(self, worker: Worker, job: Job) -> None:
        if renewed(worker, self.roster[worker], job) or self.stand_ins.replaces(worker, job):
            self.remove(worker)
            return
        if job.step is not None:
            self._send_step(worker, job)
            return
        self._join(worker, job)
        introduce(worker, self.roster[worker], job)
        self._feed(worker, job)

    def _feed(self, worker: Worker, job: Job) -> None:
        """Give a worker as many chunks as it should hold; free it if it holds none."""
        self._feeder.feed(worker, job)
        if not (job.left or job.crew.to_duplicate or (job.goes_on and self.leases.is_divisible(job))):
            self.unwant(job)
        else:
            self.refresh(job)
        if not job.crew.held[worker]:
            self.release(worker)
