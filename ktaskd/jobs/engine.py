"""The events of jobs: each edits the books of a job and marks the job; then all marked jobs are settled.

Everything runs on one event loop, so nothing interrupts an event. Workers report through the `Listener`
methods; callers use `launch`, `guard` and `stop`. No event decides the job's next state: the tables of
`settling` do.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from ktaskd.host.caller import Caller
from ktaskd.jobs import course, joblines
from ktaskd.jobs.acceptance import Acceptance
from ktaskd.jobs.chunks import Chunks
from ktaskd.jobs.closing import Closing
from ktaskd.jobs.departures import Departures
from ktaskd.jobs.dispatch import Dispatch
from ktaskd.jobs.fences import Fences
from ktaskd.jobs.guests import killed_words, note_death
from ktaskd.jobs.job import Job
from ktaskd.jobs.machine import Event
from ktaskd.jobs.patience import Clocks, Patience
from ktaskd.jobs.ports import Raiser, Worker
from ktaskd.jobs.registry import Registry
from ktaskd.jobs.settling import Settling
from ktaskd.jobs.steps import Finish, Prepare
from ktaskd.jobs.stories import Stories
from ktaskd.jobs.watches import Watches
from ktaskd.model.allowance import Allowance, Level
from ktaskd.model.identity import Identity
from ktaskd.model.job import JobError, JobState
from ktaskd.pool.death import Death
from ktaskd.worker.frames import Done, FrameInvalid, LeaseDone
from ktaskd.worker.messages import Failed, Planned, Prior, Reply, Report, Rests, Wakes

CUT_WORDS = {"DEADLINE": "the caller's deadline passed", "CLIENT_GONE": "the caller went away"}


class Engine:
    """Runs the accepted jobs on the workers that `Dispatch` gives them.

    Args:
        raiser: raises starved helpers; None = they cannot be raised.
    """

    def __init__(
        self,
        registry: Registry,
        dispatch: Dispatch,
        patience: Patience,
        clocks: Clocks,
        raiser: Raiser | None = None,
    ) -> None:
        """Take over the dispatch."""
        self.registry = registry
        self.dispatch = dispatch
        self.counters: Counter[str] = Counter()
        self.on_cost: Callable[[Identity, float], None] = lambda _, __: None
        """Called with the owner of a job and the CPU seconds that this loop has just spent on the job."""
        self.on_launch: Callable[[], None] = lambda: None
        """Called when a job is launched."""
        self._clocks = clocks
        self._workers: set[Worker] = set()
        self.watches = Watches(dispatch, registry, self.counters, patience, raiser, self._settle)
        self.accept = Acceptance(registry, self.counters, lambda: dispatch.allowance, clocks.wall).accept
        self._departures = Departures(patience.grace_s, patience.fence_s, self._settle)
        self._fences = Fences(dispatch, patience, self._settle)
        self._chunks = Chunks(dispatch, registry, self.watches.rescue.note_progress)
        self.stories = Stories(dispatch.roster, clocks.wall, sum(dispatch.capacity.values()))
        self._closing = Closing(dispatch, registry, self.counters, self._workers, clocks, self.stories)
        self._settling = Settling(
            dispatch,
            self._departures,
            {
                JobState.RUNNING: self._begin,
                JobState.COMBINING: course.begin_success,
                JobState.DRAINING: self._drain,
                JobState.UNDOING: self._undo,
                **{state: self._end for state in JobState if state.ended},
            },
        )
        dispatch.on_crew = self.stories.on_crew
        self.watches.activity.on_look = self.stories.look
        dispatch.on_departure = self._departures.add
        dispatch.on_start = lambda job: self._settling.apply(job, Event.START)

    @property
    def on_idle(self) -> Callable[[], None]:
        """Called when the last job has ended."""
        return self._closing.on_idle

    @on_idle.setter
    def on_idle(self, on_idle: Callable[[], None]) -> None:
        self._closing.on_idle = on_idle

    @property
    def on_ended(self) -> Callable[[Job, int], None]:
        """Called with each job that has ended, and the bytes that it processed."""
        return self._closing.on_ended

    @on_ended.setter
    def on_ended(self, on_ended: Callable[[Job, int], None]) -> None:
        self._closing.on_ended = on_ended

    def _settle(self, job: Job | None = None) -> None:
        """Settle all marked jobs at the end of an event."""
        self._settling.settle(job)

    # -- jobs come in -------------------------------------------------------------

    def launch(self, job: Job) -> None:
        """Begin an accepted job; a separate event, so that the job's waiter is known before."""
        self.on_launch()
        if job.detached:
            self.watches.rescue.look_later()
        if job.plan.total or job.step is not None:
            self.dispatch.want(job)
        self._settle(job)
        self.stories.on_launch(job)

    def set_allowance(self, allowance: Allowance) -> None:
        """Change the allowance; jobs that it makes wait report that."""
        running = self.registry.running  # thousands may be queued: each must cost little
        before_pause = [job for job in running if job.rescued] if allowance.level is Level.PAUSED else []
        for job in before_pause:
            job.set_rescued(False)  # the pause does not count as time without progress
        if allowance.level is Level.PAUSED:
            self.watches.rescue.forget()
        self.stories.on_allowance(allowance)
        self.dispatch.set_allowance(allowance, before_pause)
        for job in running:
            if job.watchers:
                job.touch()

    def set_caller(self, job: Job, caller: Caller) -> None:
        """Note that the CPUs or the CPU time that the job's owner may use have changed."""
        if not job.state.ended and job.set_caller(caller):
            job.touch()
        self.dispatch.shrink(job)

    def guard(self, job: Job) -> None:
        """Note that a caller waits for the job and that the job is cancelled if the caller goes away."""
        job.guard()
        self.dispatch.refresh(job)

    def unguard(self, job: Job, cut: str = "") -> None:
        """Note that a waiter has gone; `cut` = the reason, if that was before it got its answer."""
        job.unguard()
        if cut and not job.guards and not job.state.ended:
            self.stop(job, JobError(cut, CUT_WORDS[cut]), cancel=True)
        self.dispatch.refresh(job)

    def cancel(self, job: Job) -> None:
        """Stop a job on request."""
        self.stop(job, JobError("CANCELLED", "cancelled by request"), cancel=True)

    def stop(self, job: Job, error: JobError, *, cancel: bool = False) -> None:
        """Stop a job: no new chunk of it starts, and running chunks give back their remainder.

        The first reason counts. An ended job stays as it is.
        """
        if job.is_stopping or (cancel and self._is_too_late(job)):
            return
        job.halt(error, cancel=cancel)
        self._settle(job)

    def _is_too_late(self, job: Job) -> bool:
        """Whether it is too late to cancel a job: all is done, and the last step cannot be broken off."""
        if job.state is not JobState.COMBINING:
            return False
        finishes = job.crew.step_worker is not None and isinstance(job.step, Finish)
        if finishes and not job.checked.declaration.long_finish:
            self._fences.watch_steps(job)
            return True
        return job.step is None  # only its workers are waited for

    # -- what workers report ----------------------------------------------------------

    def on_ready(self, worker: Worker) -> None:
        """Note that a worker can be given work."""
        self._workers.add(worker)
        self.dispatch.add(worker)
        self._settle()

    def on_done(self, worker: Worker, done: Done) -> None:
        """Record a chunk that is done, or given back from `reached` on."""
        job = self.dispatch.job_of.get(worker)
        if job is None and self.dispatch.strays.take_done(worker, done):
            self._settle()
            return
        try:
            goes_on = self._chunks.take_done(worker, job, done)
        except FrameInvalid as error:
            worker.kill(f"sent nonsense ({error})")
            return
        assert job is not None
        # The short way: the worker gets the next chunk of the same job, and nothing else has changed.
        if not (goes_on and self.dispatch.next(worker, job)):
            self._free(worker, job)
            self._settle(job)

    def on_report(self, worker: Worker, report: Report) -> None:
        """Record any other report of a worker on its chunk or step."""
        job = self.dispatch.job_of.get(worker)
        if job is None:
            worker.kill()
            return
        began_s = time.thread_time()
        self._take_report(job, worker, report)
        self.on_cost(job.owner, time.thread_time() - began_s)

    def _take_report(self, job: Job, worker: Worker, report: Report) -> None:
        is_of_step = job.crew.step_worker is worker and report.seq == job.crew.step_seq
        match report:
            case LeaseDone():
                self._on_lease_done(job, worker, report)
            case Prior():
                self._chunks.take_prior(job, report)
            case Rests() | Wakes():
                self._chunks.take_rest(worker, job, report)
            case Failed() if not is_of_step:
                self._on_chunk_failed(job, worker, report)
            case _ if not is_of_step:
                worker.kill()
            case Planned():
                self._on_planned(job, worker, report)
            case Reply():
                self._on_reply(job, worker, report)
            case Failed():
                self._on_step_failed(job, worker, report)

    def _on_lease_done(self, job: Job, worker: Worker, done: LeaseDone) -> None:
        try:
            self._chunks.take_lease_done(worker, job, done)
        except FrameInvalid as error:
            worker.kill(f"sent nonsense ({error})")
            return
        if not job.goes_on:
            self._settle(job)
        elif not self.dispatch.may_keep(worker, job):
            worker.recall()

    def on_dead(self, worker: Worker, death: Death) -> None:
        """Record the death of a worker: its begun chunk or step is lost, the other chunks go back."""
        self._workers.discard(worker)
        left = self._departures.remove(worker)
        job = self.dispatch.job_of.get(worker)
        # A worker that was asked to end has not died, whether or not its status was reported.
        ended = (bool(worker.memory_group) or worker.retired) and job is None and not death.signal
        self.counters["workers_died"] += not ended
        held = job.crew.held.get(worker, {}) if job is not None else {}
        step = job.step if job is not None and job.crew.step_worker is worker else None
        if job is not None:
            job.crew.introduced.discard(worker)
        self.dispatch.remove(worker)
        if job is not None:
            for i, (seq, lost) in enumerate(sorted(held.items())):
                begun = seq <= death.seq
                if begun or (i == 0 and death.by_itself):
                    # A job that ends workers before they begin would do so forever.
                    self._chunks.lose(job, lost, death, begun=begun)
                else:
                    self._chunks.give_back(job, lost)
            if step is not None:
                begun = job.crew.step_seq <= death.seq
                if not course.note_death(job, step, death, killed_words(job, death), begun=begun):
                    self._go_on(job)
            if worker.memory_group and (error := note_death(job, death)):
                job.halt(error)
        self._settle(job or left)

    def _free(self, worker: Worker, job: Job) -> None:
        """Free a worker that has answered, unless it holds more of its job."""
        if self.dispatch.job_of.get(worker) is job and not job.crew.held.get(worker):
            self.dispatch.release(worker)

    def _on_chunk_failed(self, job: Job, worker: Worker, failed: Failed) -> None:
        if not self._chunks.take_failed(worker, job, failed):
            worker.kill()
            return
        self._free(worker, job)
        self._settle(job)

    # -- steps for the whole job ---------------------------------------------------

    def _on_planned(self, job: Job, worker: Worker, planned: Planned) -> None:
        """Record what a prepare step is about to change, so that it can be undone whatever happens."""
        if job.course.prepared is not None:
            worker.kill()
        else:
            job.course.prepared = planned.value

    def _on_reply(self, job: Job, worker: Worker, reply: Reply) -> None:
        self._chunks.account(job, worker, reply.cpu_ns)
        job.tally.steps_ns += reply.cpu_ns
        step = job.take_step()
        self.dispatch.step_ended(worker, job)
        if job.state is not JobState.DRAINING or isinstance(step, Prepare):
            course.note_value(job, step, reply.value)
        self._go_on(job)
        self._settle(job)

    def _on_step_failed(self, job: Job, worker: Worker, failed: Failed) -> None:
        step = job.take_step()
        self.dispatch.step_ended(worker, job)
        course.note_failure(job, step, failed)
        self._go_on(job)
        self._settle(job)

    def _go_on(self, job: Job) -> None:
        """Continue after a step has ended, successful or not."""
        if job.goes_on:
            self.dispatch.want(job)
        elif job.step is None and (job.state is JobState.UNDOING or job.error is None):
            course.take_next_step(job)

    # -- what is done on entry into a state ----------------------------------------

    def _begin(self, job: Job) -> None:
        job.begin(self._clocks.wall())
        asyncio.get_running_loop().call_soon(joblines.log_started, job)
        self.watches.on_start()

    def _drain(self, job: Job) -> None:
        """Recall every chunk of the job."""
        if job.error is None and (stuck := self._departures.stuck_error(job)) is not None:
            job.set_stuck(stuck)
        self.dispatch.unwant(job)
        if job.crew.step_worker is None:
            job.set_step(None)
        self.dispatch.refresh(job)
        for worker in job.crew.busy:
            worker.recall()
        if job.crew.busy:
            self._fences.begin_grace(job)

    def _undo(self, job: Job) -> None:
        job.set_step(None)
        _note_stuck(job, self._departures.stuck_error(job))
        course.begin_undo(job)
        if job.step is not None:
            self._fences.watch_steps(job)

    def _end(self, job: Job) -> None:
        _note_stuck(job, self._departures.stuck_error(job))
        self._departures.forget(job)
        self._closing.end(job)

    def forget_source(self, sid: int) -> None:
        """Have all workers unmap and close a source that the daemon has closed."""
        for worker in self._workers:
            worker.forget_source(sid)

    def close(self) -> None:
        """Stop the timers."""
        self._closing.close()
        self.dispatch.strays.close()
        self.watches.close()
        self._departures.close()


def _note_stuck(job: Job, error: JobError | None) -> None:
    """Mark everything dirty that a job may write, since processes that its workers started may still run."""
    if error is None:
        return
    if job.checked.declaration.writes:
        job.positions.mark_dirty([job.checked.span])
    job.set_stuck(error)
