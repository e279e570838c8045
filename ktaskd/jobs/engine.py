"""What happens to jobs: the only place that changes one.

Everything runs on one event loop, so each method is one step that nothing
interrupts. Workers report by the `Listener` methods, callers come in by
`accept`, `guard`, `stop`; every change ends in `Dispatch.pump`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.caller import Caller
from ktaskd.host.scheduling.cputime import read_cpu_seconds
from ktaskd.jobs import chunks, ending
from ktaskd.jobs.activity import ActivityWatch
from ktaskd.jobs.departures import Departures
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.guests import note_death
from ktaskd.jobs.hang import HangWatch
from ktaskd.jobs.job import Call, Job, Json
from ktaskd.jobs.machine import Event
from ktaskd.jobs.ports import NoRaiser, Raiser
from ktaskd.jobs.registry import Registry, digest_of
from ktaskd.jobs.rescue import Rescue
from ktaskd.jobs.slices import SLICE, for_each
from ktaskd.jobs.starvation import StarvedWatch
from ktaskd.jobs.weight import live_bytes_of
from ktaskd.model.allowance import Allowance, Level
from ktaskd.model.checked import CheckedJob
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobError, JobId, JobSpec, JobState, abridged
from ktaskd.planner.plan import Plan
from ktaskd.pool.link import Death, Worker
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, Note

log = logging.getLogger(__name__)


def boot_seconds() -> float:
    """Seconds since the machine was started, those of its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Engine:
    """Runs the accepted jobs on the workers that `Dispatch` gives them.

    Args:
        grace_s: seconds that a worker has to give a chunk back when its job
            stops, before it is killed.
        fence_s: seconds that a killed worker has to be seen dead, before its
            job is reported dirty with WORKER_STUCK.
        hang_cpu_s: CPU seconds that a worker may use without a quantum, before
            it is killed; 0 = no limit.
        starvation_s: seconds without progress after which a job gets a lead that
            nobody waits for; 0 = it gets none.
        raiser: raises starved helpers; None = nothing can.
        wall: seconds since the epoch, for display.
        boot: seconds of a clock that nobody sets, also while the machine sleeps; ended
            jobs are kept by it.
    """

    def __init__(
        self,
        registry: Registry,
        dispatch: Dispatch,
        *,
        grace_s: float,
        fence_s: float,
        hang_cpu_s: float = 0.0,
        starvation_s: float = 0.0,
        raiser: Raiser | None = None,
        wall: Callable[[], float],
        boot: Callable[[], float] = boot_seconds,
    ) -> None:
        """Take over the dispatch."""
        self.registry = registry
        self.dispatch = dispatch
        self.grace_s = grace_s
        self.fence_s = fence_s
        self.counters: Counter[str] = Counter()
        self.on_idle: Callable[[], None] = lambda: None
        self.on_cost: Callable[[Identity, float], None] = lambda _, __: None
        """Called with the owner of a job and the CPU seconds that this loop has just spent on it."""
        self._wall, self._boot = wall, boot
        self._allowance = lambda: dispatch.allowance  # one object for all jobs
        self._loop = asyncio.get_running_loop()
        self._jnos = itertools.count(1)
        self._workers: set[Worker] = set()
        self._forgetting: asyncio.TimerHandle | None = None
        self._hang_watch = HangWatch(hang_cpu_s, read_cpu_seconds)
        self._looking: asyncio.TimerHandle | None = None
        self._starved = StarvedWatch(dispatch, self.counters, raiser or NoRaiser())
        self.rescue = Rescue(dispatch, registry, self.counters, starvation_s)
        self.departures = Departures(grace_s, fence_s, self.after_worker)
        dispatch.on_departure = self.departures.add
        dispatch.on_start = self._on_start
        dispatch.on_join = self._on_join
        self._activity = ActivityWatch(dispatch, self.counters)
        dispatch.on_left = self._on_left
        dispatch.on_awake = self._on_awake
        dispatch.on_contended = self._activity.on_contended
        dispatch.stand_ins.raiser = raiser or NoRaiser()
        dispatch.can_raise = lambda: raiser is not None and bool(raiser.ways)

    # -- jobs come in -------------------------------------------------------------

    def accept(
        self,
        spec: JobSpec,
        checked: CheckedJob,
        owner: Identity,
        sources: Mapping[str, HeldSource],
        items: tuple[HeldSource, ...],
        plan: Plan,
        *,
        owned: Collection[HeldSource] = (),
        digest: bytes = b"",
    ) -> Job:
        """Accept a checked job; its sources' references become the job's.

        Args:
            owned: each of its sources once; the job gives back one reference to each.
            digest: of the spec; b"" = it is worked out where it is needed.
        Raises:
            QuotaFull, QueueFull: and the references stay the caller's.
        """
        digest = digest or (digest_of(spec) if spec.request_id else b"")
        spec = abridged(spec)
        self.registry.check_room(owner, live_bytes_of(spec, len(items), len(owned), len(checked.ranges)))
        jno = next(self._jnos)
        job_id = JobId(secrets.token_hex(16))
        job = Job(job_id, jno, spec, checked, owner, sources, items, plan, self._wall(), owned)
        job.allowance = self._allowance
        self.registry.add(job, digest)
        self.counters["jobs_accepted"] += 1
        log.debug(
            "job_accepted job=%s uid=%d function=%s positions=%d threads=%d",
            job.id, owner.uid, spec.function, plan.total, plan.threads,
        )  # fmt: skip
        if checked.declaration.lifecycle:
            job.calls.append(Call("prepare", {}, lambda value: self._on_prepared(job, value)))
        return job

    def launch(self, job: Job) -> None:
        """Begin an accepted job; separate, so that its waiter is known before."""
        if job.detached:
            self.rescue.look_later()
        if not job.plan.total and not job.calls:
            self._on_start(job)
            self._all_done(job)
        else:
            self.dispatch.want(job)
        self.dispatch.pump()

    def set_allowance(self, allowance: Allowance) -> None:
        """From now on so many workers may run; jobs that wait for that say so."""
        running = self.registry.running  # thousands may be queued, so each of them costs as little as can be
        before_pause = [job for job in running if job.rescued] if allowance.level is Level.PAUSED else []
        for job in before_pause:
            job.rescued = False  # its time without progress begins anew after that
        if allowance.level is Level.PAUSED:
            self.rescue.forget()
        self.dispatch.set_allowance(allowance, before_pause)
        for job in running:
            if job.watchers:
                job.touch()

    def set_caller(self, job: Job, caller: Caller) -> None:
        """The job's owner may use other CPUs, or more or less CPU time, than before."""
        if not job.state.ended and job.set_caller(caller):
            job.touch()
        self.dispatch.shrink(job)

    def guard(self, job: Job) -> None:
        """Somebody waits for the job, and its going cancels it."""
        job.guards += 1
        job.detached = False
        self.dispatch.refresh(job)

    def unguard(self, job: Job, cut: str = "") -> None:
        """A waiter has gone; with `cut` (a reason) before it had its answer."""
        job.guards -= 1
        if cut and not job.guards and not job.state.ended:
            words = {"DEADLINE": "the caller's deadline passed", "CLIENT_GONE": "the caller went away"}
            self.stop(job, JobError(cut, words[cut]), cancel=True)
        self.dispatch.refresh(job)

    def cancel(self, job: Job) -> None:
        """Stop a job because somebody asked for it."""
        self.stop(job, JobError("CANCELLED", "cancelled by request"), cancel=True)

    def stop(self, job: Job, error: JobError, *, cancel: bool = False) -> None:
        """No new chunk of the job starts; what runs gives its rest back.

        The first reason counts. An ended job stays as it is.
        """
        if job.state in (JobState.DRAINING, JobState.UNDOING) or job.state.ended:
            return
        finishes = job.crew.step_worker is not None and job.calls[0].op == "finish"
        if cancel and finishes and not job.checked.declaration.long_finish:
            ending.watch_steps(self, job)
            return  # all is done, and the last step is not taken back
        if cancel and self.departures.is_held_back(job):
            return  # all is done, and only its workers are waited for
        job.error, job.is_cancel = error, cancel
        job.step(Event.STOP)
        self.dispatch.unwant(job)
        if job.crew.step_worker is None:
            job.calls.clear()
        self.dispatch.refresh(job)
        for worker in job.crew.busy:
            worker.recall()
        self._check_drained(job)
        if job.crew.busy:
            self._loop.call_later(self.grace_s, self._on_grace_over, job)
        self.dispatch.pump()

    # -- what workers say -----------------------------------------------------------

    def on_ready(self, worker: Worker) -> None:
        """A worker can be given work."""
        self._workers.add(worker)
        self.dispatch.add(worker)
        self.dispatch.pump()

    def on_done(self, worker: Worker, done: Done) -> None:
        """A chunk is done, or given back from `reached` on."""
        chunks.on_done(self, worker, done)

    def on_note(self, worker: Worker, note: Note) -> None:
        """PRIOR, PLANNED, REPLY or FAILED."""
        job = self.dispatch.job_of.get(worker)
        if job is None:
            worker.kill()
            return
        began_s = time.thread_time()
        self._take_note(job, worker, note)
        self.on_cost(job.owner, time.thread_time() - began_s)

    def _take_note(self, job: Job, worker: Worker, note: Note) -> None:
        if note.kind in (frames.RESTS, frames.WAKES):
            chunks.on_rest(self, job, worker, note)
        elif note.kind == frames.PRIOR:
            chunks.on_prior(self, job, note.body)
        elif note.kind == frames.PLANNED:
            self._on_planned(job, worker, note)
        elif note.kind == frames.REPLY:
            self._on_reply(job, worker, note)
        elif note.number == job.crew.step_seq and job.crew.step_worker is worker:
            self._on_call_failed(job, worker, note.body)
        else:
            chunks.on_failed(self, job, worker, note)

    def on_dead(self, worker: Worker, death: Death) -> None:
        """A worker is dead: what it had begun is lost, the rest goes back."""
        self._workers.discard(worker)
        left = self.departures.remove(worker)
        job = self.dispatch.job_of.get(worker)
        # One that was told to end has, whether or not its status was heard of.
        ended = (bool(worker.memory_group) or worker.retired) and job is None and not death.signal
        self.counters["workers_died"] += not ended
        if job is None:
            self.dispatch.remove(worker)
            self.dispatch.pump()
            if left is not None:
                self.after_worker(left)
            return
        held = job.crew.held.get(worker, {})
        call = job.crew.step_worker is worker
        job.crew.introduced.discard(worker)
        self.dispatch.remove(worker)
        for i, (seq, lost) in enumerate(sorted(held.items())):
            begun = seq <= death.seq
            if begun or (i == 0 and death.by_itself):
                # A job that ends workers before they begin would do so for ever.
                chunks.on_lost(self, job, lost, death, begun=begun)
            else:
                chunks.take_back(self, job, lost)
        if call:
            ending.on_call_lost(self, job, death, begun=job.crew.step_seq <= death.seq)
        if worker.memory_group and (error := note_death(job, death)):
            self.stop(job, error)
        self.after_worker(job)

    # -- chunks ----------------------------------------------------------------------

    def _on_left(self, worker: Worker) -> None:
        self._starved.on_left(worker)
        self._activity.on_left(worker)

    def _on_awake(self, worker: Worker, job: Job) -> None:
        self._starved.on_join(worker, job)
        self._activity.on_join()

    def _on_join(self, worker: Worker, job: Job) -> None:
        self._on_awake(worker, job)
        if job.watchers and len(job.crew.helpers) + (job.crew.lead is not None) == 1:
            job.touch()  # who watches a job that nobody works on waits for a change, not for progress

    def _on_start(self, job: Job) -> None:
        job.start_s = self._wall()
        job.watched.begin(job)
        job.step(Event.START)
        self._look_later()

    def _look_later(self) -> None:
        """Look for workers that hang, for as long as any is busy."""
        limit_s = self._hang_watch.limit_s
        if self._looking is None and limit_s:
            self._looking = self._loop.call_later(min(max(limit_s / 4, 0.05), 5.0), self._look)

    def _look(self) -> None:
        self._looking = None
        # How long its own code takes is its owner's business, who can cancel it.
        others = [at for at, job in self.dispatch.job_of.items() if not job.checked.declaration.own]
        for worker in self._hang_watch.look(others):
            log.warning("worker_hangs worker=%d pid=%d nid=%d", worker.id, worker.pid, worker.nid)
            worker.kill(f"used {self._hang_watch.limit_s:g} s of CPU time without progress")
        if self.registry.unended:
            self._look_later()

    def worker_left(self, worker: Worker, job: Job) -> None:
        """A worker of a stopping job has answered; it is free when it holds no more."""
        if self.dispatch.job_of.get(worker) is job and not job.crew.held.get(worker):
            self.dispatch.release(worker)
        self.after_worker(job)

    def after_worker(self, job: Job) -> None:
        """A worker of the job has answered or died: go on, or see whether it was the last."""
        if (event := self.departures.take_held_back(job)) is not None:
            self.end(job, event)
        elif job.state is JobState.RUNNING:
            self.check_running(job)
        else:
            self._check_drained(job)
        self.dispatch.pump()

    def check_running(self, job: Job) -> None:
        """End the chunks of a running job if there are none left."""
        if job.state is not JobState.RUNNING:
            return
        if not job.left and not job.crew.busy and not job.calls:
            self._all_done(job)

    # -- steps for the whole job ---------------------------------------------------

    def _on_planned(self, job: Job, worker: Worker, note: Note) -> None:
        """What a prepare is about to change, so that it can be taken back whatever comes."""
        if job.crew.step_worker is not worker or note.number != job.crew.step_seq or job.prepared is not None:
            worker.kill()
            return
        job.prepared = note.body.get("value") or {}

    def _on_prepared(self, job: Job, value: Json) -> None:
        job.prepared = value
        self.dispatch.want(job)

    def _all_done(self, job: Job) -> None:
        job.step(Event.ALL_DONE)
        ending.combine(self, job)

    def _on_reply(self, job: Job, worker: Worker, note: Note) -> None:
        if job.crew.step_worker is not worker or note.number != job.crew.step_seq or not job.calls:
            worker.kill()
            return
        chunks.account(self, job, worker, int(note.body.get("cpu_ns", 0)))
        call = job.calls.popleft()
        self.dispatch.call_ended(worker, job)
        if job.state is JobState.DRAINING and call.op == "prepare":
            job.prepared = note.body.get("value") or {}
        elif job.state is not JobState.DRAINING:
            call.on_value(note.body.get("value") or {})
        self.after_worker(job)

    def _on_call_failed(self, job: Job, worker: Worker, body: Json) -> None:
        call = job.calls.popleft()
        self.dispatch.call_ended(worker, job)
        ending.on_call_failed(self, job, call, body)
        self.after_worker(job)

    # -- the end ---------------------------------------------------------------------

    def _check_drained(self, job: Job) -> None:
        if job.state is JobState.DRAINING and not job.crew.busy:
            job.calls.clear()
            self.dispatch.dismiss_guest(job)
            if self.departures.are_awaited(job):
                return  # what they have started may still write
            ending.note_stuck(job, self.departures.stuck_error(job))
            job.step(Event.DRAINED)
            ending.undo(self, job)

    def _on_grace_over(self, job: Job) -> None:
        """Who has not given its chunk back by now does not heed the flag."""
        busy = job.crew.busy if job.state is JobState.DRAINING else set()
        for worker in busy:
            log.warning(
                "worker_killed job=%s worker=%d pid=%d reason=grace_over", job.id, worker.id, worker.pid
            )
            worker.kill()
        if busy:
            self._loop.call_later(self.fence_s, self._on_fence_over, job)

    def _on_fence_over(self, job: Job) -> None:
        if job.state is JobState.DRAINING:
            ending.give_up_on(self, job, job.crew.busy)
            self.after_worker(job)

    def end(self, job: Job, event: Event) -> None:
        """Give the job its final state and let go of everything it held, once its workers are gone."""
        self.dispatch.dismiss_guest(job)
        if self.departures.hold_back(job, event):
            return
        stuck = self.departures.stuck_error(job)
        if stuck is not None and event is Event.FINISHED:
            self.stop(job, stuck)
            return
        ending.note_stuck(job, stuck)
        event = Event.END_DIRTY if stuck is not None and job.positions.dirty else event
        self.departures.forget(job)
        job.end_s, job.ended_boot_s = self._wall(), self._boot()
        self.dispatch.unwant(job)
        for worker in job.crew.introduced & self._workers:
            worker.forget_job(job.jno)
        job.crew.introduced.clear()
        for_each(job.owned, HeldSource.release)
        job.sources, job.items, job.owned = {}, (), ()
        job.step(event)
        job.shrink()
        self.counters[f"jobs_{job.state.value}"] += 1
        # Later in this turn of the loop: whoever waits for the answer goes first.
        self._loop.call_soon(
            log.info,
            "job_ended job=%s uid=%d nid=%d state=%s reason=%s seconds=%.3f",
            job.id, job.owner.uid, job.owner.nid, job.state.value,
            job.error.reason if job.error else "", job.end_s - job.create_s,
        )  # fmt: skip
        self.registry.note_ended(job)
        self._forget_later()
        if not self.registry.unended:
            self.on_idle()

    def _forget_later(self) -> None:
        if self._forgetting is None:
            keep_s = self.registry.limits.keep_s
            self._forgetting = self._loop.call_later(keep_s, self._forget_now)

    def _forget_now(self) -> None:
        self._forgetting = None
        keep_s = self.registry.limits.keep_s
        oldest_s = self.registry.forget_ended_before(self._boot() - keep_s, SLICE)
        if oldest_s is not None:
            delay_s = max(oldest_s + keep_s - self._boot(), 0.1)
            self._forgetting = self._loop.call_later(delay_s, self._forget_now)

    def forget_source(self, sid: int) -> None:
        """A source is gone: workers unmap and close it."""
        for worker in self._workers:
            worker.forget_source(sid)

    def close(self) -> None:
        """Forget the timers."""
        for timer in (self._forgetting, self._looking):
            if timer is not None:
                timer.cancel()
        self._starved.close()
        self._activity.close()
        self.departures.close()
        self.rescue.close()
