"""Which worker gets the next chunk of which job: users in turn, first come, first served.

Workers pull: nothing is assigned ahead of the chunk in hand, or two where
chunks are short. Lowering the allowance takes effect by not handing out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from ktaskd.host.raising import bind_to_cpus
from ktaskd.jobs.guests import Admit, Guests, no_guests, recall_helper
from ktaskd.jobs.job import Call, HeldChunk, Job
from ktaskd.jobs.lines import Lines, Shares
from ktaskd.model.allowance import Allowance
from ktaskd.model.job import JobState
from ktaskd.model.limits import NUMA_NO_NODE, SHORT_CHUNK_S
from ktaskd.model.topology import Topology
from ktaskd.model.worker import WorkerClass, WorkerState
from ktaskd.planner.cursor import Chunk
from ktaskd.pool.link import Worker
from ktaskd.worker.codec import facts_to_json

IN_FLIGHT_S = 0.0005
IN_FLIGHT_MAX = 8
"""Work, and chunks, that one worker holds ahead at most where chunks are short."""

ITEMS_PER_CHUNK = 64
"""Sources sent along with one chunk over items."""


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
        admit: Admit = no_guests,
    ) -> None:
        """Know no worker yet.

        Args:
            want_leads: asks the lead pool for at least so many leads.
            wall: seconds since the epoch.
            admit: starts a guest.
        """
        self.allowance = allowance
        self.on_start: Callable[[Job], None] = lambda _: None
        self.job_of: dict[Worker, Job] = {}
        self._topology = topology
        self._want_leads = want_leads
        self._wall = wall
        self._now = asyncio.get_running_loop().time
        self._idle_helpers: dict[int, dict[Worker, None]] = {node.nid: {} for node in topology.nodes}
        self._idle_leads: dict[Worker, None] = {}
        self._busy: Counter[int] = Counter()
        self._busy_cpus: Counter[int] = Counter()
        self._leads_of_uid: Counter[int] = Counter()
        self._wanting: set[Job] = set()
        self.shares = Shares()
        self._for_leads = Lines(self.shares)
        self._for_helpers = Lines(self.shares)
        self._calling = Lines(self.shares)
        self._for_guest_leads = Lines(self.shares)
        self._for_guest_helpers = Lines(self.shares)
        self._lines = (
            self._for_leads,
            self._for_helpers,
            self._calling,
            self._for_guest_leads,
            self._for_guest_helpers,
        )
        self._guests = Guests(admit)

    # -- what there is to do ------------------------------------------------------

    def want(self, job: Job) -> None:
        """The job has positions that nobody holds."""
        self._wanting.add(job)
        self.refresh(job)

    def unwant(self, job: Job) -> None:
        """Hand out nothing more of the job."""
        self._wanting.discard(job)
        self.refresh(job)
        job.lead_limited_s = 0.0

    def refresh(self, job: Job) -> None:
        """Put the job into the lines that it belongs to now."""
        active = job in self._wanting and job.cursor.left > 0 and not job.calls
        places = (
            active and job.waited and job.crew.lead is None,
            active and len(job.crew.helpers) < job.helpers_max,
            bool(job.calls) and job.crew.call_worker is None,
            False,
            False,
        )
        if job.in_guest:
            free = any(places) and job.crew.lead is None and not job.crew.helpers
            places = (False, False, False, free and job.waited, free and not job.waited)
            recall_helper(job)
        if places != job.places:
            if any(places) and not any(job.places):
                self.shares.enter(job.owner.uid)
            elif any(job.places) and not any(places):
                self.shares.leave(job.owner.uid)
            job.places = places
            for line, wanted in zip(self._lines, places, strict=True):
                line.put(job, wanted)

    def busy_helpers(self, nid: int) -> int:
        """Helpers of a node that hold something."""
        return self._busy[nid]

    @property
    def busy_leads(self) -> int:
        """Leads that hold something."""
        return sum(self._leads_of_uid.values())

    # -- workers come and go --------------------------------------------------------

    def add(self, worker: Worker) -> None:
        """A worker became ready, or has nothing in hand any more."""
        worker.state = WorkerState.IDLE
        if worker.memory_group:
            self._begin_guest(worker)
        elif worker.is_lead:
            self._idle_leads[worker] = None
        else:
            self._idle_helpers[worker.nid][worker] = None

    def remove(self, worker: Worker) -> None:
        """A worker is dead or not to be used again."""
        self._idle_leads.pop(worker, None)
        for idle in self._idle_helpers.values():
            idle.pop(worker, None)
        self._leave(worker)
        self._guests.forget(worker)

    def _join(self, worker: Worker, job: Job) -> None:
        if self.job_of.get(worker) is job:
            return
        worker.state = WorkerState.BUSY
        self.job_of[worker] = job
        self.shares.hold(job.owner.uid)
        if worker.is_lead:
            self._idle_leads.pop(worker, None)
            self._leads_of_uid[job.owner.uid] += 1
            job.crew.lead = worker
            job.lead_limited_s = 0.0
        else:
            self._idle_helpers[worker.nid].pop(worker, None)
            self._busy[worker.nid] += 1
            self._busy_cpus[worker.cpu] += 1
            job.crew.helpers.add(worker)
        self.refresh(job)
        self._place_leads()
        if job.state is JobState.QUEUED:
            self.on_start(job)

    def _leave(self, worker: Worker) -> None:
        job = self.job_of.pop(worker, None)
        if job is None:
            return
        job.crew.held.pop(worker, None)
        if job.crew.call_worker is worker:
            job.crew.call_worker = None
        if worker.is_lead:
            self._leads_of_uid[job.owner.uid] -= 1
            job.crew.lead = None
        else:
            self._busy[worker.nid] -= 1
            self._busy_cpus[worker.cpu] -= 1
            job.crew.helpers.discard(worker)
        cost_s = (job.lead_ns + job.helper_ns) / 1e9
        self.shares.let_go(job.owner.uid, cost_s / job.chunks_done if job.chunks_done else 0.0)
        self.refresh(job)
        self._place_leads()

    def release(self, worker: Worker) -> None:
        """The worker has nothing of its job in hand; it is free for others."""
        self._leave(worker)
        if worker.state is WorkerState.BUSY:
            self.add(worker)

    def _place_leads(self) -> None:
        """Keep leads off the CPUs of busy helpers while others are free.

        The kernel takes a CPU that only runs SCHED_IDLE work for an idle one
        when it places a normal thread, so it would put the lead right there.
        """
        taken = {cpu for cpu, count in self._busy_cpus.items() if count}
        for worker, job in self.job_of.items():
            if not worker.is_lead or not worker.pid:
                continue
            allowed = (job.owner.cpus & self._topology.cpus) or self._topology.cpus
            cpus = (allowed - taken) or allowed
            if cpus != worker.cpus and bind_to_cpus(worker.pid, frozenset(cpus)):
                worker.cpus = frozenset(cpus)

    # -- giving -----------------------------------------------------------------------

    def pump(self) -> None:
        """Give everything that can be given now."""
        self._give_leads()
        self._give_guest_helpers(in_turn=True)
        self._give_helpers()
        self._give_guest_helpers(in_turn=False)
        self._give_calls_to_leads()

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
        if not job.cursor.left or job.calls or job not in self._wanting:
            return False
        chunks = self._for_leads if worker.is_lead else self._for_helpers
        uid, had_s = job.owner.uid, self.shares.had(job.owner.uid)
        guests = self._for_guest_leads if worker.is_lead else self._for_guest_helpers
        for line in (chunks, self._calling, guests):
            rival = line.first
            if rival is None:
                continue
            if rival.owner.uid != uid and self.shares.had(rival.owner.uid) < had_s:
                return False
            if rival.owner.uid == uid and (rival.jno < job.jno or line is self._calling):
                return False
        return True

    def _may_go_on(self, worker: Worker, job: Job) -> bool:
        if worker.is_lead:
            return True
        allowed = self.allowance.helpers.get(worker.nid, 0)
        # Somebody may have begun to wait for the job: then one place is its lead's.
        return self._busy[worker.nid] <= allowed and len(job.crew.helpers) <= job.helpers_max

    def _send_call(self, worker: Worker, job: Job) -> None:
        call: Call = job.calls[0]
        call.attempts += 1
        self._join(worker, job)
        self._introduce(worker, job)
        job.crew.call_worker = worker
        job.crew.call_seq = worker.send_call(job.jno, call.op, call.payload)
        self.refresh(job)

    def call_ended(self, worker: Worker, job: Job) -> None:
        """The worker has answered a call."""
        job.crew.call_worker = None
        self.release(worker)

    def _lead_allowed(self, job: Job) -> bool:
        uid = job.owner.uid
        return (
            self.busy_leads < self.allowance.leads and self._leads_of_uid[uid] < self.allowance.leads_per_uid
        )

    def _give_leads(self) -> None:
        """Leads for waited jobs and for cleaning up, the uid that had least first."""
        while job := self._next_for_lead():
            if job.in_guest:
                if not self._give_guest(job, WorkerClass.LEAD):
                    return
                continue
            if not self._idle_leads:
                wanted = self.busy_leads + len(self._for_leads)
                self._want_leads(min(wanted, self.allowance.leads))
                return
            self._start(next(iter(self._idle_leads)), job)

    def _next_for_lead(self) -> Job | None:
        """The job whose turn it is to have a lead; notes which may not have one."""
        calls = self._calling.firsts() if self._idle_leads else []
        jobs = [job for job in calls if job.waited or job.state is JobState.UNDOING]
        jobs = [*jobs, *self._for_leads.firsts(), *self._for_guest_leads.firsts()]
        for job in sorted(jobs, key=self._turn):
            if self._lead_allowed(job):
                return job
            if not job.calls:
                job.lead_limited_s = job.lead_limited_s or self._wall()
        return None

    def _give_calls_to_leads(self) -> None:
        """A call that no helper is free for is not kept waiting by an idle lead."""
        while self._idle_leads and self._calling:
            job = next(filter(self._lead_allowed, self._calling.firsts()), None)
            if job is None:
                return
            self._start(next(iter(self._idle_leads)), job)

    # -- guests ---------------------------------------------------------------------

    def _give_guest(self, job: Job, worker_class: WorkerClass, nid: int = NUMA_NO_NODE) -> bool:
        """Give a job its guest, which counts as at work from here on, ready or not."""
        node = self._topology.node(nid)
        cpus = sorted(node.cpus) if node is not None else ()
        cpu = min(cpus, key=lambda cpu: self._busy_cpus[cpu], default=-1)
        worker = self._guests.engage(job, worker_class, nid, cpu)
        if worker is None:
            return False
        if worker.state is WorkerState.IDLE:
            self._start(worker, job)
        else:
            self._join(worker, job)
        return True

    def _begin_guest(self, worker: Worker) -> None:
        """A guest is ready, or has been released; one that is ready has its job already."""
        job = self.job_of.get(worker)
        if job is not None:
            worker.state = WorkerState.BUSY
            self._place_leads()
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
            free = (
                node.nid for node in wanted if self._busy[node.nid] < self.allowance.helpers.get(node.nid, 0)
            )
            nid = next(free, None)
            if nid is not None:
                self._give_guest(job, WorkerClass.HELPER, nid)

    def dismiss_guest(self, job: Job) -> None:
        """The job needs no guest any more; it has nothing in hand."""
        if job.guest.worker is not None:
            self._leave(job.guest.worker)
            self._guests.dismiss(job)

    def _turn(self, job: Job) -> tuple[float, bool]:
        """Sorts jobs: of the uid that had least first, its steps before its chunks."""
        return self.shares.had(job.owner.uid), not job.calls

    def _free_helpers(self) -> Iterable[Worker]:
        for nid, idle in self._idle_helpers.items():
            if idle and self._busy[nid] < self.allowance.helpers.get(nid, 0):
                yield from tuple(idle)

    def _has_free(self, nid: int) -> bool:
        return bool(self._idle_helpers.get(nid)) and self._busy[nid] < self.allowance.helpers.get(nid, 0)

    def _give_helpers(self) -> None:
        for worker in self._free_helpers():
            if not self._for_helpers and not self._calling:
                return
            if self._busy[worker.nid] >= self.allowance.helpers.get(worker.nid, 0):
                continue
            jobs = [job for job in (self._calling.first, self._job_for(worker)) if job is not None]
            if jobs:
                self._start(worker, min(jobs, key=self._turn))

    def _job_for(self, worker: Worker) -> Job | None:
        for job in self._for_helpers:
            if job.cursor.may_take(worker.nid, lead=False, has_free=self._has_free):
                return job
        return None

    def _start(self, worker: Worker, job: Job) -> None:
        if job.calls:
            self._send_call(worker, job)
            return
        self._join(worker, job)
        self._introduce(worker, job)
        self._feed(worker, job)

    def _introduce(self, worker: Worker, job: Job) -> None:
        """Send what a worker must know before its first chunk of a job."""
        held = job.crew.held.setdefault(worker, {})
        assert not held, "a worker that holds chunks knows its job"
        if job.jno in worker.jnos:
            return
        for source in job.sources.values():
            worker.send_source(source.sid, {"facts": facts_to_json(source.facts)}, source.fd)
        body = {
            "function": job.checked.declaration.name,
            "arg": dict(job.checked.arg),
            "sources": {role: source.sid for role, source in job.sources.items()},
            "span": list(job.checked.span),
            "whole": job.checked.whole,
        }
        worker.send_job(job.jno, body)
        job.crew.told.add(worker)

    def _feed(self, worker: Worker, job: Job) -> None:
        """Give a worker as many chunks as it should hold; free it if it has none."""
        held, uid = job.crew.held[worker], job.owner.uid
        size = job.next_size()
        if job.items:
            size = min(size, ITEMS_PER_CHUNK)
        depth = self._depth(job, size)
        if len(held) <= depth // 2:
            chunks = self._take(worker, job, size, depth - len(held))
            # CPU time, not the rate: that is by the clock, and low where a helper is starved.
            cost_s = (job.lead_ns + job.helper_ns) / 1e9 / (job.done.total or 1)
            for i, chunk in enumerate(chunks, 1):
                self._send_items(worker, job, chunk)
                seq = worker.send_chunk(job.jno, chunk.start, chunk.end, more=i < len(chunks))
                likely_s = (chunk.end - chunk.start) * cost_s if cost_s else self.shares.likely_s(uid)
                self.shares.charge(uid, likely_s)
                held[seq] = HeldChunk(chunk, self._now(), likely_s)
        if not job.cursor.left:
            self.unwant(job)
        else:
            self.refresh(job)
        if not held:
            self.release(worker)

    @staticmethod
    def _depth(job: Job, size: int) -> int:
        """Chunks in flight to one worker: more than one hides the dispatch of short ones.

        Two for chunks below 2 ms; below a quarter of a millisecond so many that
        the worker need not be woken for each. Never at the tail, where a chunk
        that waits behind another one would make the job wait.
        """
        if not job.rate or size / job.rate > SHORT_CHUNK_S:
            return 1
        wanted = min(max(int(IN_FLIGHT_S * job.rate / size), 2), IN_FLIGHT_MAX)
        return max(min(wanted, job.cursor.left // (2 * size * job.plan.threads)), 1)

    def _take(self, worker: Worker, job: Job, size: int, count: int) -> list[Chunk]:
        nid = job.owner.nid if worker.is_lead else worker.nid
        # A guest has the job for itself, whichever node its ranges are on.
        lead = worker.is_lead or bool(worker.memory_group)
        chunks: list[Chunk] = []
        while len(chunks) < count:
            chunk = job.cursor.take(size, nid, lead=lead, has_free=self._has_free)
            if chunk is None:
                break
            chunks.append(chunk)
        return chunks

    @staticmethod
    def _send_items(worker: Worker, job: Job, chunk: Chunk) -> None:
        if not job.items:
            return
        items = {}
        for position in range(chunk.start, chunk.end):
            source = job.items[position]
            worker.send_source(source.sid, {"facts": facts_to_json(source.facts)}, source.fd)
            items[str(position)] = source.sid
        worker.send_job(job.jno, {"items": items})
