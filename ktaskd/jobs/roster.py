"""The existing workers: a record of each, and the job that each busy one works for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ktaskd.jobs.affinity import lead_cpus, quietest_cpu
from ktaskd.jobs.helpers import Helpers
from ktaskd.jobs.holders import Holders
from ktaskd.jobs.job import Job
from ktaskd.jobs.leads import Leads
from ktaskd.jobs.ports import Kernel, PoolRequests, Worker
from ktaskd.model.allowance import Allowance
from ktaskd.model.topology import Topology
from ktaskd.model.worker import WorkerState


@dataclass(slots=True, eq=False)
class Record:
    """The state of one worker, as far as it concerns jobs.

    Attributes:
        cpu: the CPU that a helper is pinned to; -1 for a lead.
        cpus: the CPUs that it may run on now.
        chunks: number of chunks that it has done.
        starved: whether other processes had its CPU at the last look.
        raised: whether it runs at normal priority for a while, to finish a chunk.
        partly_raised: whether raising it worked at least in part; it gets no more work before it
            was lowered.
        confined: whether it has given up rights that a caller's own code may need.
    """

    cpu: int
    cpus: frozenset[int] = frozenset()
    chunks: int = 0
    starved: bool = False
    raised: bool = False
    partly_raised: bool = False
    confined: bool = False


class Roster:
    """The ready workers of all pools, and guests that are starting.

    Invariant: a worker that is IDLE is in exactly one of the idle sets; a BUSY
    one is in the crew of exactly one job, which `job_of` names.

    Attributes:
        allowance: the present allowance.
        job_of: the busy workers, each with its job.
    """

    def __init__(
        self,
        topology: Topology,
        allowance: Allowance,
        pools: PoolRequests,
        kernel: Kernel,
        wake: Callable[[], None],
    ) -> None:
        """Start without workers. `wake` is called when the pause of a helper has ended."""
        self.allowance = allowance
        self.job_of: dict[Worker, Job] = {}
        self.leads = Leads(pools.want_leads)
        self.helpers = Helpers(topology, lambda: self.allowance, wake, pools.want_helpers)
        self._topology = topology
        self._kernel = kernel
        self._records: dict[Worker, Record] = {}
        self._resting: dict[Job, set[Worker]] = {}

    def __getitem__(self, worker: Worker) -> Record:
        """Return the record of a worker that is ready or busy."""
        return self._records[worker]

    def find(self, worker: Worker) -> Record | None:
        """Return the record of any worker; None if it is not ready yet, or gone."""
        return self._records.get(worker)

    # -- workers come, work and go ------------------------------------------------------

    def enroll(self, worker: Worker) -> None:
        """Note a worker that has become ready."""
        record = self._records.setdefault(worker, Record(worker.cpu))
        record.cpus = worker.applied.cpus

    def add_idle(self, worker: Worker) -> None:
        """Note that a worker holds nothing. A guest serves only its job, so it is in no idle set."""
        worker.state = WorkerState.IDLE
        if not worker.memory_group:
            (self.leads if worker.is_lead else self.helpers).add(worker)

    def begin(self, worker: Worker, job: Job) -> None:
        """Note that a worker works for a job from now on."""
        if worker not in self._records:  # a guest that is still starting
            self._records[worker] = Record(worker.cpu)
        worker.state = WorkerState.BUSY
        self.job_of[worker] = job
        job.muster()
        if worker.is_lead:
            self.leads.begin(worker, job)
            job.crew.lead = worker
        else:
            self._move(worker)
            self.helpers.begin(worker, job)
            job.crew.helpers.add(worker)

    def end(self, worker: Worker, job: Job) -> None:
        """Note that a worker no longer works for its job."""
        del self.job_of[worker]
        job.crew.held.pop(worker, None)
        if job.crew.step_worker is worker:
            job.crew.step_worker = None
        if worker.is_lead:
            self.leads.end(worker)
            job.crew.lead = None
        else:
            self.helpers.end(worker)
            job.crew.helpers.discard(worker)

    def forget_idle(self, worker: Worker) -> None:
        """Give a worker nothing more."""
        self.leads.forget(worker)
        self.helpers.forget(worker)

    def forget(self, worker: Worker) -> None:
        """Drop the record of a worker that is dead or must not be used again."""
        self._records.pop(worker, None)

    # -- who is busy --------------------------------------------------------------------

    def busy_helpers(self, nid: int) -> int:
        """Return the number of busy helpers of a node."""
        return self.helpers.holders.busy(nid)

    @property
    def busy_leads(self) -> int:
        """Return the number of busy leads."""
        return len(self.leads.holders)

    @property
    def has_idle_helper(self) -> bool:
        """Whether a helper could begin something now."""
        return next(iter(self.helpers.free()), None) is not None

    def holders_of(self, worker: Worker) -> Holders[Worker]:
        """Return the busy workers of this worker's class."""
        return (self.leads if worker.is_lead else self.helpers).holders

    def is_blocked(self, worker: Worker) -> bool:
        """Whether a busy worker uses no CPU, so that it does not count."""
        return self.holders_of(worker).is_blocked(worker)

    def recall_excess(self) -> None:
        """Recall the chunks of the newest workers if more use a CPU than allowed."""
        self.leads.recall_excess(self.allowance)
        self.helpers.recall_excess()

    # -- who rests in its chunk ------------------------------------------------------------

    def rest(self, worker: Worker, job: Job) -> list[Worker]:
        """Note that a busy worker rests; return those that have rested longest if too many rest."""
        worker.note_rest(resting=True)
        self._resting.setdefault(job, set()).add(worker)
        return self.holders_of(worker).rest(worker)

    def wake(self, worker: Worker, job: Job) -> None:
        """Note that a worker that rested continues, or is gone."""
        worker.note_rest(resting=False)
        workers = self._resting[job]
        workers.remove(worker)
        if not workers:
            del self._resting[job]
        self.holders_of(worker).wake(worker)

    def has_resting(self, job: Job) -> bool:
        """Whether a worker of the job rests."""
        return job in self._resting

    def idle_jobs(self, job: Job) -> int:
        """Return the number of other jobs whose workers all rest."""
        others = (other for other in self._resting if other is not job)
        return sum(all(worker.resting for worker in other.crew.busy) for other in others)

    # -- where they run ------------------------------------------------------------------------

    def place_leads(self) -> None:
        """Bind each busy lead to the CPUs that it should use now.

        Leads may use the CPU of a starved helper, which other processes have anyway, and that of a
        blocked helper, which is free.
        """
        leads = [(worker, job) for worker, job in self.job_of.items() if worker.is_lead and worker.pid]
        if not leads:
            return
        records, is_blocked, all_cpus = self._records, self.is_blocked, self._topology.cpus
        helpers = (one for one in self.job_of if not one.is_lead and not records[one].starved)
        taken = frozenset(records[worker].cpu for worker in helpers if not is_blocked(worker))
        active = sum(not is_blocked(worker) for worker, _ in leads)
        for worker, job in leads:
            wanted = lead_cpus((job.caller.cpus & all_cpus) or all_cpus, taken, active)
            record = records[worker]
            if wanted != record.cpus and self._kernel.bind(worker.pid, wanted):
                record.cpus = wanted

    def _move(self, helper: Worker) -> None:
        """If another helper works on this helper's CPU, bind it to a CPU without one."""
        holders = self.helpers.holders
        if not holders.blocked or helper.memory_group:
            return
        record = self._records[helper]
        taken = {self._records[other].cpu for other in holders.newest_active(helper.nid)}
        free = [cpu for cpu in self.helpers.cpus[helper.nid] if cpu not in taken]
        if record.cpu in taken and free and self._kernel.bind(helper.pid, frozenset(free[:1])):
            record.cpu, record.cpus = free[0], frozenset(free[:1])

    def quietest_cpu(self, nid: int) -> int:
        """Return the CPU of a node with the fewest busy workers; -1 if there is no such node."""
        return quietest_cpu(self._topology.node(nid), (self._records[one].cpu for one in self.job_of))
