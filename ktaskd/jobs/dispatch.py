"""Which worker gets the next chunk of which job: users in turn, first come, first served.

Workers pull: nothing is assigned ahead of the chunk in hand, or two where
chunks are short. Lowering the allowance takes effect by not handing out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from ktaskd.jobs import affinity, eligibility
from ktaskd.jobs.disks import Disks
from ktaskd.jobs.fairshare import FairQueue, Shares
from ktaskd.jobs.feed import Feeder, RecentArrival, introduce, recall_patient, renewed
from ktaskd.jobs.guests import Admit, Guests, no_guests, recall_helper
from ktaskd.jobs.helpers import Helpers
from ktaskd.jobs.holders import Holders
from ktaskd.jobs.job import Call, Job
from ktaskd.jobs.leads import Leads
from ktaskd.jobs.pauses import Pauses
from ktaskd.jobs.resting import Resting, recall_surplus
from ktaskd.jobs.standins import StandIns
from ktaskd.model.allowance import Allowance
from ktaskd.model.job import JobState
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.model.topology import Topology
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.pool.link import Worker

GUEST_AGAIN_S = 1.0
"""When a guest is tried to be had again where none could be."""


class Dispatch:
    """Hands chunks and calls to workers.

    Invariant: a worker that is IDLE is in exactly one of the idle sets; a BUSY
    one is in the crew of exactly one job, which `job_of` names.
    """

    def __init__(
        self,
        topology: Topology,
        allowance: Allowance,
        want_leads: Callable[[int], None],
        wall: Callable[[], float],
        want_helpers: Callable[[int, int], None] = lambda *_: None,
        admit: Admit = no_guests,
    ) -> None:
        """Know no worker yet.

        Args:
            want_leads: asks the lead pool for at least so many leads.
            wall: seconds since the epoch.
            want_helpers: asks the pool of a node for at least so many helpers.
            admit: starts a guest.
        """
        self.allowance = allowance
        self.capacity = allowance.helpers
        """Helpers that there are, by node, whatever is allowed now."""
        self.on_start: Callable[[Job], None] = lambda _: None
        self.on_join: Callable[[Worker, Job], None] = lambda _, __: None
        self.on_left: Callable[[Worker], None] = lambda _: None
        self.on_awake: Callable[[Worker, Job], None] = lambda _, __: None
        self.on_departure: Callable[[Worker, Job], None] = lambda _, __: None
        """Told of a worker that ends with what it has done for a job, and lives."""
        self.on_contended: Callable[[], None] = lambda: None
        """Called while jobs wait for workers that others hold, who may use no CPU."""
        self.can_raise: Callable[[], bool] = lambda: True
        """Whether a starved helper can be raised, so that a writer may be given to one."""
        self.job_of: dict[Worker, Job] = {}
        self._topology = topology
        self._wall = wall
        self._now = asyncio.get_running_loop().time
        self.leads = Leads(want_leads)
        self.helpers = Helpers(topology, lambda: self.allowance, self.pump, want_helpers)
        self.cooldowns = self.helpers.cooldowns
        self.stand_ins = StandIns()
        self.resting = Resting(self)
        self._pauses = Pauses(wall, self._go_on)
        self.pacer = self._pauses.pacer
        self._wanting: dict[Job, None] = {}
        self._pumping: asyncio.Handle | None = None
        self.shares = Shares()
        self._disks = Disks()
        self._arrival = RecentArrival()
        self._feeder = Feeder(self.shares, self.helpers.has_free, self._is_alone)
        self._queues = tuple(FairQueue(self.shares) for _ in range(5))
        self._for_leads, self._for_helpers, self._calling, *guests = self._queues
        self._for_guest_leads, self._for_guest_helpers = guests
        self._guests = Guests(admit)
        self._no_guests: asyncio.TimerHandle | None = None  # set while none can be had

    # -- what there is to do ------------------------------------------------------

    def want(self, job: Job) -> None:
        """The job has positions that nobody holds."""
        if job not in self._wanting and self._wanting and self._arrival.comes(self._now()):
            recall_patient(self.job_of)
        self._wanting[job] = None
        self._disks.enter(job)
        self.refresh(job)

    def _is_alone(self, job: Job) -> bool:
        others = len(self._wanting) - (job in self._wanting) - self.resting.idle_jobs(job)
        by_itself = others <= 0 and not self._arrival.is_near(self._now())
        return by_itself and self.allowance.share >= 1.0

    def unwant(self, job: Job) -> None:
        """Hand out nothing more of the job."""
        self._wanting.pop(job, None)
        self._disks.forget(job)
        self.refresh(job)
        job.lead_limited_s = 0.0

    def refresh(self, job: Job) -> None:
        """Put the job into the lines that it belongs to now."""
        active = job in self._wanting and not job.calls and job not in self.resting
        job.full_disk = self._disks.full(job) if active and job.left > 0 else ""
        places = eligibility.places(job, active, self.allowance.level, self.can_raise)
        if job.in_guest:
            recall_helper(job)
        # Who waits for a disk is in no line, and yet waits: else it would lose its turn.
        waits = any(places) or bool(job.full_disk)
        if waits != job.waits:
            (self.shares.enter if waits else self.shares.leave)(job.owner.uid)
            job.waits = waits
        if places != job.places:
            job.places = places
            for queue, wanted in zip(self._queues, places, strict=True):
                queue.put(job, wanted)

    def set_allowance(self, allowance: Allowance, unrescued: Iterable[Job] = ()) -> None:
        """Let so many workers run; the surplus gives its chunks back. `unrescued` jobs lose their lead."""
        before, self.allowance = self.allowance, allowance
        if allowance.share > before.share:
            self.cooldowns.end_duty_pause()
        concerned = filter(eligibility.depends_on_level, (*self._wanting, *self._calling))
        for job in dict.fromkeys((*unrescued, *self.job_of.values(), *concerned)):
            self.refresh(job)
        holders = self.helpers.holders
        surplus = Counter({nid: holders.blocked_on(nid) for nid in self.capacity})
        # Those that are blocked use no CPU now, but may at any moment.
        surplus.update({nid: holders.active(nid) - allowance.helpers.get(nid, 0) for nid in self.capacity})
        recall_surplus(self.job_of, surplus, allowance, every=allowance.share < before.share)
        self.pump()

    def shrink(self, job: Job) -> None:
        """The job may hold fewer workers than before: those that are too many give back."""
        for worker in sorted(job.crew.helpers, key=lambda worker: worker.id)[max(job.helpers_max, 0) :]:
            worker.recall()
        job.paced_until_s = 0.0  # where it still has to wait, that is found out again
        self.stand_ins.follow(job)
        self.refresh(job)
        if self._pumping is None:
            # Once for all jobs of one caller, which may have thousands.
            self._pumping = asyncio.get_running_loop().call_soon(self._pump_once)

    def _pump_once(self) -> None:
        self._pumping = None
        self.place_leads()
        self.pump()

    def busy_helpers(self, nid: int) -> int:
        """Helpers of a node that hold something."""
        return self.helpers.holders.busy(nid)

    @property
    def has_idle_helper(self) -> bool:
        """Whether a helper could begin something now."""
        return next(iter(self.helpers.free()), None) is not None

    def firsts(self) -> list[Job]:
        """The jobs that come next, one for each uid: for a helper, and for a step."""
        return [*self._for_helpers.firsts(), *self._calling.firsts()]

    @property
    def busy_leads(self) -> int:
        """Leads that hold something."""
        return len(self.leads.holders)

    # -- workers come and go --------------------------------------------------------

    def add(self, worker: Worker) -> None:
        """A worker became ready, or has nothing in hand any more."""
        worker.state = WorkerState.IDLE
        if worker.memory_group:
            self._begin_guest(worker)
        elif worker.is_lead:
            self.leads.add(worker)
        else:
            self.helpers.add(worker)

    def remove(self, worker: Worker) -> None:
        """A worker is dead or not to be used again."""
        self.leads.forget(worker)
        self.helpers.forget(worker)
        self._leave(worker)
        self._guests.forget(worker)

    def _join(self, worker: Worker, job: Job) -> None:
        if self.job_of.get(worker) is job:
            return
        worker.state = WorkerState.BUSY
        self.job_of[worker] = job
        job.muster()
        self.shares.hold(job.owner.uid)
        if worker.is_lead:
            self.leads.begin(worker, job)
            job.crew.lead = worker
            job.lead_limited_s = 0.0
        else:
            self.helpers.begin(worker, job)
            job.crew.helpers.add(worker)
        for concerned in self._disks.join(job):
            self.refresh(concerned)
        if worker.is_lead:
            self._disks.make_room(job, self.job_of)
        self.place_leads()
        if job.state is JobState.QUEUED:
            self.on_start(job)
        self.on_join(worker, job)

    def _leave(self, worker: Worker) -> None:
        job = self.job_of.pop(worker, None)
        if job is None:
            return
        self.resting.leave(worker, job)
        job.crew.held.pop(worker, None)
        if job.crew.step_worker is worker:
            job.crew.step_worker = None
        if worker.is_lead:
            self.leads.end(worker)
            job.crew.lead = None
        else:
            self.helpers.end(worker)
            job.crew.helpers.discard(worker)
        cost_s = (job.lead_ns + job.helper_ns) / 1e9
        self.shares.let_go(job.owner.uid, cost_s / job.chunks_done if job.chunks_done else 0.0)
        self.on_left(worker)
        for concerned in self._disks.leave(job):
            self.refresh(concerned)
        self.place_leads()

    def release(self, worker: Worker) -> None:
        """The worker has nothing of its job in hand; it is free for others."""
        job = self.job_of.get(worker)
        self._leave(worker)
        if worker.state is WorkerState.BUSY and not worker.ends_with_its_job():
            self.add(worker)
        elif worker.tainted and job is not None:
            self.on_departure(worker, job)

    def place_leads(self) -> None:
        """Leads go where no helper gets on; called whenever that has changed."""
        affinity.place_leads(self.job_of, self._topology.cpus, self.is_blocked)

    def is_blocked(self, worker: Worker) -> bool:
        """Whether a busy worker uses no CPU, and so does not count."""
        return self.holders_of(worker).is_blocked(worker)

    def holders_of(self, worker: Worker) -> Holders[Worker]:
        """The busy workers of its class."""
        return (self.leads if worker.is_lead else self.helpers).holders

    # -- giving -----------------------------------------------------------------------

    def pump(self) -> None:
        """Give everything that can be given now."""
        self._give_leads()
        self._give_guest_helpers(in_turn=True)
        self._give_helpers()
        self._give_guest_helpers(in_turn=False)
        self._give_calls_to_leads()
        if self._for_helpers or self._calling:
            self.helpers.want(self._for_helpers, len(self._calling), self._may_help)
        if self.leads_are_contended or self.helpers_are_contended:
            self.on_contended()

    @property
    def leads_are_contended(self) -> bool:
        """Whether jobs wait for leads that others have, or some of these are blocked."""
        waits = self._for_leads or self._for_guest_leads or self._calling
        return bool(self.leads.holders.blocked or (waits and self.busy_leads))

    @property
    def helpers_are_contended(self) -> bool:
        """Whether jobs without a helper wait for those that others have, or some of these are blocked."""
        holders = self.helpers.holders
        waits = self._calling or any(not job.crew.helpers for job in self._for_helpers)
        return bool(holders.blocked or (len(holders) and waits))

    def next(self, worker: Worker, job: Job) -> None:
        """A worker has done a chunk: another one of the same job, if it is its turn."""
        if self._is_its_turn(worker, job) and self._may_go_on(worker, job):
            self._feed(worker, job)
            if worker in self.job_of:
                return
            # What is left of the job is another node's, which may have waited for its turn.
        elif not job.crew.held[worker]:
            self.release(worker)
        self.pump()

    def _is_its_turn(self, worker: Worker, job: Job) -> bool:
        """Whether nobody who waits for a worker of this class comes before the job."""
        if not job.left or job.calls or job not in self._wanting:
            return False
        if self._calling.is_before(job, steps=True):
            return False
        if worker.is_lead:
            return not (self._for_leads.is_before(job) or self._for_guest_leads.is_before(job))
        # Who waits for the disk is in no line.
        waits = self._disks.is_anothers_turn(job, self.shares.had)
        return not (waits or self._for_helpers.is_before(job) or self._for_guest_helpers.is_before(job))

    def _may_go_on(self, worker: Worker, job: Job) -> bool:
        if worker.is_lead:
            return self._lead_may_go_on(worker, job)
        # Somebody may have begun to wait for the job: then one place is its lead's.
        fits = not self.helpers.is_over(worker.nid) and len(job.crew.helpers) <= job.helpers_max
        return fits and not self._disks.over(job) and not self._lead_comes(job)

    def _lead_may_go_on(self, lead: Worker, job: Job) -> bool:
        fits = lead.has_priority_for(job.caller.priority) and not self.leads.is_over(job, self.allowance)
        may = fits and eligibility.may_have_lead(job, self.allowance.level)
        return may and not self._pauses.hold_back(job)

    def _lead_comes(self, job: Job) -> bool:
        """Whether a helper has the only place of a job for want of a lead, and a lead is free now."""
        if not job.lead_limited_s or len(job.crew.helpers) < job.threads:
            return False
        return eligibility.may_have_lead(job, self.allowance.level) and self._lead_allowed(job)

    def _go_on(self, job: Job) -> None:
        self.refresh(job)
        self.pump()

    def _send_call(self, worker: Worker, job: Job) -> None:
        call: Call = job.calls[0]
        call.attempts += 1
        self._join(worker, job)
        introduce(worker, job)
        job.crew.step_worker = worker
        job.crew.step_seq = worker.send_call(job.jno, call.op, call.payload)
        self.refresh(job)

    def call_ended(self, worker: Worker, job: Job) -> None:
        """The worker has answered a call."""
        job.crew.step_worker = None
        self.release(worker)

    def _lead_allowed(self, job: Job) -> bool:
        return self.leads.may_begin(job, self.allowance)

    def _give_leads(self) -> None:
        """Leads for waited jobs and for cleaning up, the uid that had least first."""
        while job := self._next_for_lead():
            if job.in_guest:
                self._give_guest(job, WorkerClass.LEAD)
                continue
            if not self.leads.idle:
                self.leads.want(len(self._for_leads), self.allowance)
                return
            self._start(self.leads.pick(job), job)

    def _next_for_lead(self) -> Job | None:
        """The job whose turn it is to have a lead; notes which may not have one."""
        hold_back = self._pauses.hold_back
        while (jobs := self._turns_for_leads()) and not jobs[0].calls and hold_back(jobs[0]):
            self.refresh(jobs[0])  # its caller's earlier jobs have used up the quota
        for job in jobs:
            if self._lead_allowed(job) and (job.calls or not hold_back(job)):
                return job
            if not job.calls and not job.paced_until_s and not job.lead_limited_s:
                job.lead_limited_s = self._wall()
                self.refresh(job)  # it may have a helper instead
        return None

    def _turns_for_leads(self) -> list[Job]:
        """The next of each uid, the uid that had least first."""
        calls = self._calling.firsts() if self.leads.idle else []
        jobs = [job for job in calls if job.has_lead or job.state is JobState.UNDOING]
        jobs += self._for_leads.firsts()
        jobs += self._for_guest_leads.firsts() if self._no_guests is None else []
        return sorted(jobs, key=self._turn)

    def _give_calls_to_leads(self) -> None:
        """A call that no helper is free for is not kept waiting by an idle lead, or for want of one."""
        jobs = self._calling.firsts() if not self.leads.idle else []
        if any(job.has_lead or job.state is JobState.UNDOING for job in jobs):
            self.leads.want(len(self._calling), self.allowance)
        while self.leads.idle and self._calling:
            job = next(filter(self._lead_allowed, self._calling.firsts()), None)
            if job is None:
                return
            self._start(self.leads.pick(job), job)

    # -- guests ---------------------------------------------------------------------

    def _give_guest(self, job: Job, worker_class: WorkerClass, nid: int = NUMA_NO_NODE) -> None:
        """Give a job its guest, which counts as at work from here on, ready or not."""
        cpu = affinity.quietest_cpu(self._topology.node(nid), self.job_of)
        worker = self._guests.engage(job, worker_class, nid, cpu)
        if worker is None:
            # That this changes need not be seen by any event; nobody else waits for it.
            self._no_guests = asyncio.get_running_loop().call_later(GUEST_AGAIN_S, self._guests_again)
            return
        if worker.state is WorkerState.IDLE:
            self._start(worker, job)
        else:
            self._join(worker, job)

    def _guests_again(self) -> None:
        self._no_guests = None
        self.pump()

    def _begin_guest(self, worker: Worker) -> None:
        """A guest is ready, or has been released; one that is ready has its job already."""
        if (job := self.job_of.get(worker)) is not None:
            worker.state = WorkerState.BUSY
            self.place_leads()
            self._start(worker, job)

    def _give_guest_helpers(self, *, in_turn: bool) -> None:
        """Guests for jobs that nobody waits for, beside or instead of other helpers."""
        for job in self._for_guest_helpers.firsts():
            rival = self._for_helpers.first
            if in_turn and rival is not None and self._turn(rival) < self._turn(job):
                continue
            wanted = sorted(self._topology.nodes, key=lambda node: node.nid != job.owner.nid)
            if job.guest.worker is not None and not job.guest.worker.is_lead:
                wanted = [node for node in wanted if node.nid == job.guest.worker.nid]
            nid = next((node.nid for node in wanted if self.helpers.has_room(node.nid)), None)
            if nid is not None and self._no_guests is None:
                self._give_guest(job, WorkerClass.HELPER, nid)

    def dismiss_guest(self, job: Job) -> None:
        """The job needs no guest any more; it has nothing in hand."""
        guest = job.guest.worker
        if guest is not None:
            self._leave(guest)
            self._guests.dismiss(job)
            if guest.tainted:
                self.on_departure(guest, job)

    def _turn(self, job: Job) -> tuple[float, bool]:
        """Sorts jobs: of the uid that had least first, its steps before its chunks."""
        return self.shares.had(job.owner.uid), not job.calls

    def _give_helpers(self) -> None:
        # Again: with what was given a node may have nothing free left, so that others help it.
        while self._give_some_helpers():
            pass

    def _give_some_helpers(self) -> bool:
        """Give each free helper something, if there is; whether one was given any."""
        given = False
        for worker in self.helpers.free():
            if not self._for_helpers and not self._calling:
                return False
            if not self.helpers.has_room(worker.nid):
                continue
            jobs = [job for job in (self._calling.first, self._job_for(worker)) if job is not None]
            if jobs:
                self._start(worker, min(jobs, key=self._turn))
                given = given or worker in self.job_of
        return given

    def _may_help(self, job: Job, nid: int) -> bool:
        """Whether a job has something for a helper of a node."""
        takes = job.positions.may_take(nid, lead=False, has_free=self.helpers.has_free)
        return takes and self.helpers.may_begin(job, nid)

    def _job_for(self, worker: Worker) -> Job | None:
        return next((job for job in self._for_helpers if self._may_help(job, worker.nid)), None)

    def _start(self, worker: Worker, job: Job) -> None:
        if renewed(worker, job) or self.stand_ins.replaces(worker, job):
            self.remove(worker)
            return
        if job.calls:
            self._send_call(worker, job)
            return
        self._join(worker, job)
        introduce(worker, job)
        self._feed(worker, job)

    def _feed(self, worker: Worker, job: Job) -> None:
        """Give a worker as many chunks as it should hold; free it if it has none."""
        self._feeder.feed(worker, job)
        if not job.left and not job.crew.to_duplicate:
            self.unwant(job)
        else:
            self.refresh(job)
        if not job.crew.held[worker]:
            self.release(worker)
