"""The points at which a worker can be struck, and the outcome for its chunk, its job and the others.

Guards: I6
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from ktaskd.jobs import view
from ktaskd.jobs.job import Job
from ktaskd.model.job import JobSpec, JobState, RangeSpec
from ktaskd.model.spans import Span, SpanSet
from tests.fault.armed_faults import ArmedFaults
from tests.fault.faulty_pools import faulty_pools
from tests.fault.struck_jobs import CHUNK, MAKERS, StruckJob, rests
from tests.jobs.realjobs import SharedJobs

SUCCEEDED = JobState.SUCCEEDED
FAILED = JobState.FAILED
CANCELLED = JobState.CANCELLED
DIRTY = JobState.DIRTY

GRACE_S = 0.2


@dataclass(frozen=True)
class Row:
    """One line of the matrix.

    Args:
        faults: what happens, as ArmedFaults.arm_all reads it.
        job: the job that is struck; a key of MAKERS.
        state, says: how the job ends, and its error's message (a regular
            expression); "cancelled": the test cancels it when all faults have happened.
        rerun: chunks that were lost and retried; chunks that were given back do not count.
        dirty: "" = nothing; "lost" = the completed chunks, and no more of the lost
            chunk than was begun; "some" = less than everything; "all"; "beyond" =
            positions after the job's as well.
    """

    faults: str
    job: str
    state: JobState
    says: str = ""
    rerun: int = 0
    dirty: str = ""

    @property
    def deaths(self) -> int:
        """Number of workers that die."""
        words = [word.partition("*") for word in self.faults.split()]
        return sum(int(times or 1) for word, _, times in words if not word.endswith(("pass", "raise")))


BEFORE_ACK = [
    # The chunk was not begun, so it is not lost, however often its worker dies.
    Row("worker.before_ack:kill", "crc", SUCCEEDED),
    Row("worker.before_ack:kill*5", "fill", SUCCEEDED),
    Row("worker.before_ack:segv", "log", SUCCEEDED),
    Row("worker.before_ack:exit0", "items", SUCCEEDED),
    Row("worker.before_ack:kill", "copy", SUCCEEDED),
    Row("worker.before_ack:segv*2", "copy", SUCCEEDED),
    # But a job that makes workers end before they begin is not retried forever.
    Row("worker.before_ack:segv*3", "fill", FAILED, r"worker killed by SIGSEGV in chunk \[65536, .*3 times"),
    Row("worker.before_ack:exit0*3", "log", FAILED, r"worker exit status 0 in chunk \[0, .*3 times"),
    Row("worker.before_ack:hang", "fill", CANCELLED, "cancelled"),
    Row("worker.before_ack:stop", "copy", CANCELLED, "cancelled"),
    Row("worker.before_ack:stop", "log", CANCELLED, "cancelled"),
]

MID_CHUNK = [
    Row("worker.mid_chunk:kill", "crc", SUCCEEDED, rerun=1),
    Row("worker.mid_chunk:segv", "fill", SUCCEEDED, rerun=1),
    Row("worker.mid_chunk:kill*2", "fill_mapped", SUCCEEDED, rerun=2),
    Row("worker.mid_chunk:exit0*2", "copy", SUCCEEDED, rerun=2),
    Row("worker.mid_chunk:kill*2", "copy_over", SUCCEEDED, rerun=2),
    Row("worker.mid_chunk:kill", "populate", SUCCEEDED, rerun=1),
    Row("worker.mid_chunk:kill", "items", SUCCEEDED, rerun=1),
    Row("worker.mid_chunk:kill*3", "crc", FAILED, r"killed by SIGKILL in chunk \[0, .*3 times", rerun=2),
    Row("worker.mid_chunk:segv*3", "crc", FAILED, r"killed by SIGSEGV in chunk \[0, .*3 times", rerun=2),
    Row("worker.mid_chunk:kill*3", "fill", DIRTY, "killed by SIGKILL .*3 times", rerun=2, dirty="lost"),
    Row("worker.mid_chunk:pass*1 worker.mid_chunk:kill*3", "fill", DIRTY, "3 times", rerun=2, dirty="lost"),
    # A former hole is a hole again, but overwritten data cannot be brought back.
    Row("worker.mid_chunk:kill*3", "copy", FAILED, "killed by SIGKILL .*3 times", rerun=2),
    Row("worker.mid_chunk:kill*3", "copy_over", DIRTY, "3 times", rerun=2, dirty="some"),
    Row("worker.mid_chunk:kill*3", "populate", FAILED, "3 times", rerun=2),
    Row("worker.mid_chunk:pass*99 worker.mid_chunk:kill", "log", FAILED, "killed by SIGKILL in chunk"),
    Row("worker.mid_chunk:raise", "fill", DIRTY, "a fault that", dirty="some"),
    Row("worker.mid_chunk:raise", "copy", FAILED, "a fault that"),
    # First lost, then failed: the worker that failed did not see the previous content.
    Row("worker.mid_chunk:kill worker.mid_chunk:raise", "copy", FAILED, "a fault that", rerun=1),
    Row(
        "worker.mid_chunk:kill worker.mid_chunk:raise", "copy_over",
        DIRTY, "a fault that", rerun=1, dirty="some",
    ),
    Row("worker.mid_chunk:hang", "crc", CANCELLED, "cancelled"),
    Row("worker.mid_chunk:stop", "fill", DIRTY, "cancelled", dirty="lost"),
    Row("worker.mid_chunk:stop", "copy", CANCELLED, "cancelled"),
    Row("worker.mid_chunk:pass*9 worker.mid_chunk:hang", "log", CANCELLED, "cancelled"),
]  # fmt: skip

AFTER_WORK = [
    Row("worker.after_work:kill", "crc", SUCCEEDED, rerun=1),
    Row("worker.after_work:segv*2", "fill", SUCCEEDED, rerun=2),
    Row("worker.after_work:exit0", "copy", SUCCEEDED, rerun=1),
    Row("worker.half_frame:half", "crc", SUCCEEDED, rerun=1),
    Row("worker.half_frame:half", "items", SUCCEEDED, rerun=1),
    Row("worker.half_frame:half*3", "fill", DIRTY, "sent nonsense .*3 times", rerun=2, dirty="lost"),
    Row("worker.after_work:exit0*3", "copy", FAILED, "exit status 0 in chunk .*3 times", rerun=2),
    Row("worker.after_work:kill", "log", FAILED, "killed by SIGKILL in chunk"),
    Row("worker.after_work:stop", "fill", DIRTY, "cancelled", dirty="lost"),
    Row("worker.after_work:hang", "log", CANCELLED, "cancelled"),
]

STEPS = [
    # The worker reports its changes before it makes them, so the step is repeated or undone.
    Row("worker.in_prepare:kill*2", "copy", SUCCEEDED),
    Row("worker.in_prepare:segv*3", "copy", FAILED, "worker killed by SIGSEGV in prepare"),
    Row("worker.in_prepare:stop", "copy", CANCELLED, "cancelled"),
    Row("worker.in_begin:kill", "copy", FAILED, "worker killed by SIGKILL in prepare"),
    Row("worker.in_begin:stop", "copy", CANCELLED, "cancelled"),
    Row("worker.in_begin:raise", "longer", FAILED, "a fault that"),
    Row("worker.after_step:kill", "copy", FAILED, "SIGKILL in prepare"),
    Row("worker.after_step:kill", "longer", FAILED, "SIGKILL in prepare"),
    # The last step of a copy may be repeated, and its work is undone.
    Row("worker.in_finish:kill", "copy", SUCCEEDED),
    Row("worker.after_step:pass*2 worker.after_step:segv*2", "copy_shorter", SUCCEEDED),
    Row("worker.in_finish:kill*3", "copy", FAILED, "worker killed by SIGKILL in finish"),
    Row("worker.in_finish:kill*3", "copy_shorter", DIRTY, "SIGKILL in finish", dirty="beyond"),
    # A cancel comes too late for this step, but a worker that stands still in it is then killed.
    Row("worker.in_finish:stop", "copy", SUCCEEDED, "stood still"),
    Row("worker.in_finish:hang", "copy", SUCCEEDED, "stood still"),
    Row("worker.in_prepare:raise", "copy", FAILED, "a fault that"),
    # Combining changes nothing.
    Row("worker.in_combine:kill", "crc", SUCCEEDED),
    Row("worker.in_combine:segv*2", "crc", SUCCEEDED),
    Row("worker.after_step:exit0", "crc", SUCCEEDED),
    Row("worker.in_combine:kill*3", "crc", FAILED, "worker killed by SIGKILL in combine"),
    Row("worker.in_combine:raise", "crc", FAILED, "a fault that"),
    Row("worker.in_combine:stop", "crc", CANCELLED, "cancelled"),
]

UNDO = [
    Row("worker.in_undo:kill", "bad_log", DIRTY, "failed at position 999", dirty="some"),
    Row("worker.in_undo:raise", "bad_log", DIRTY, "failed at position 999", dirty="some"),
    # The worker had reported that it was done.
    Row("worker.after_step:exit0", "bad_log", FAILED, "failed at position 999"),
    # A failed chunk is first undone by its own worker. If the worker dies, its
    # undo may not be repeated.
    Row("worker.mid_undo:pass*99 worker.mid_undo:segv", "bad_log", DIRTY, "SIGSEGV in chunk", dirty="some"),
    Row("worker.mid_undo:pass*300 worker.mid_undo:segv", "bad_log", DIRTY, "failed at", dirty="some"),
    # The undo of a copy may be repeated.
    Row("worker.mid_chunk:raise worker.in_restore:kill*2", "copy", FAILED, "a fault that"),
    Row("worker.mid_chunk:raise worker.in_restore:kill*3", "copy", DIRTY, "a fault that", dirty="all"),
    # (A lease of a range of 4.5 MiB meets the point twice, and one of 4 MiB once.)
    Row(
        "worker.mid_chunk:pass*2 worker.mid_chunk:raise worker.in_undo:kill*2", "copy_parts",
        FAILED, "a fault that",
    ),
    Row(
        "worker.mid_chunk:pass*1 worker.mid_chunk:raise worker.after_step:pass*1 worker.after_step:segv*2",
        "copy_over_parts", DIRTY, "a fault that", dirty="some",
    ),
    Row(
        "worker.mid_chunk:pass*2 worker.mid_chunk:raise worker.in_undo:kill*3", "copy_parts",
        DIRTY, "a fault that", dirty="some",
    ),
    # Nobody can cancel an undo, so a worker that stands still in one is killed.
    Row("worker.in_undo:stop", "bad_log", DIRTY, "failed at position 999", dirty="some"),
    Row("worker.mid_undo:pass*300 worker.mid_undo:hang", "bad_log", DIRTY, "failed at", dirty="some"),
    Row("worker.before_ack:pass*5 worker.before_ack:stop", "bad_log", FAILED, "failed at"),
    Row("worker.mid_chunk:raise worker.in_restore:stop", "copy", FAILED, "a fault that"),
]  # fmt: skip


class Scene:
    """Pools with faults, in which one row after the other is played."""

    def __init__(self, one: SharedJobs, armed: ArmedFaults) -> None:
        self._one = one
        self._armed = armed
        self._rows = 0

    def play(self, row: Row) -> list[str]:
        """The differences from the row."""
        self._armed.clear()
        self._rows += 1
        found: list[str] = []
        self._one.run(self._story(row, waited=bool(self._rows % 2), found=found))
        return [f"{row.job}, {row.faults}: {what}" for what in found]

    async def _story(self, row: Row, *, waited: bool, found: list[str]) -> None:
        h, armed = self._one.jobs, self._armed
        victim, deaths = MAKERS[row.job](h), len(h.deaths)
        armed.arm_all(row.faults, victim.spec.function)
        spin = JobSpec("selftest.spin", arg={"ms": 1.0}, ranges=(RangeSpec(0, 20),))
        other = await h.submit(spin, waited=not waited)
        # With one worker at a time all faults meet the same chunk.
        job = await h.submit(replace(victim.spec, max_threads=1), waited=waited)
        whole = Span(*job.checked.span)
        if "cancelled" in row.says or "stood still" in row.says:
            await h.until(lambda: not armed.waiting() and all(map(rests, armed.fired().values())))
            h.engine.cancel(job)
        await h.ended(job, other)
        found += [f"{name} did not happen" for name in armed.waiting()]
        found += check(row, job, victim, whole)
        if (other.state, other.tally.retried) != (SUCCEEDED, 0):
            found.append(f"the other job noticed: {describe(other)}")
        await h.until(lambda: h.at_rest)
        if len(h.deaths) - deaths != row.deaths:
            found.append(f"{len(h.deaths) - deaths} workers died, wanted {row.deaths}")


def check(row: Row, job: Job, victim: StruckJob, whole: Span) -> Iterator[str]:
    """The differences of an ended job from the row."""
    error = view.full_error(job)
    says = error.message if error else ""
    told = re.search(row.says, says) if row.state is not SUCCEEDED else not says
    if (job.state, job.tally.retried) != (row.state, row.rerun) or not told:
        yield describe(job)
    if job.state is SUCCEEDED and not victim.found(view.full_result(job)):
        yield f"result {view.full_result(job)}"
    dirty = error.dirty if error else ()
    wrong = victim.wrong(dirty, succeeded=job.state is SUCCEEDED)
    if wrong:
        yield wrong
    if error is not None:
        yield from check_dirty(row, victim, whole, dirty)


def check_dirty(row: Row, victim: StruckJob, whole: Span, dirty: tuple[Span, ...]) -> Iterator[str]:
    """Check that the right part is dirty, and no more."""
    fits = {"": not dirty, "all": dirty == (whole,), "some": dirty and dirty != (whole,), "lost": dirty}
    fits["beyond"] = dirty and dirty[-1].end > whole.end
    if not fits[row.dirty]:
        yield f"dirty {dirty} of {whole}"
    if row.dirty == "lost":
        changed = victim.changed()
        if SpanSet(dirty).total > changed.total + CHUNK:
            yield f"dirty {dirty}, but changed was {list(changed)}"


def describe(job: Job) -> str:
    """How it ended."""
    error = view.full_error(job)
    words = f"{job.state.name}, run again {job.tally.retried}"
    return f"{words}, {error.reason}: {error.message}" if error else words


ROWS = {
    "before_ack": BEFORE_ACK,
    "mid_chunk": MID_CHUNK,
    "after_work": AFTER_WORK,
    "steps": STEPS,
    "undo": UNDO,
}


@pytest.mark.parametrize("where", ROWS)
def test_worker_when_it_is_struck_then_as_the_matrix_says(where: str) -> None:
    with faulty_pools(grace_s=GRACE_S) as (one, armed):
        scene = Scene(one, armed)
        wrong = [what for row in ROWS[where] for what in scene.play(row)]
    assert wrong == []
