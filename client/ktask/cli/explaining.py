"""The history of a job in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from ktask.cli.clients import format_files
from ktask.cli.escaping import printable
from ktask.cli.text import describe_success, fields, format_duration, format_time
from ktask.errors import describe_failure

if TYPE_CHECKING:
    from ktask.results import Cause, Job, Moment, Story

_SMALL = 0.005
"""Causes that took a smaller part of the time are not printed."""

_WORDS = {
    "ONE_WRITER": "one writer: its function writes one file, and writes to one file wait for each other",
    "MEMORY_GROUP": "one worker: it runs in the memory cgroup of its client, whose memory is limited",
    "TOO_SMALL": "too small: there was no more work to divide (see the function's min chunk)",
    "FEW_FILES": "as many workers as files: one worker reads a whole file for this function",
    "MAX_THREADS": "the number of workers that was asked for, or else the default of 4; see --max-threads",
    "FEW_CPUS": "few CPUs: it had all the workers that the machine has for it",
    "CLIENT_CPUS": "the CPUs that its client may use itself",
    "CLIENT_LIMIT": "the CPU quota of its client's cgroup, which a job does not exceed",
    "SATURATED": "saturated: more workers made it no faster; a file, a disk or memory was at its limit",
    "DISK_LIMIT": "the limit of workers for its disk (disk limits of the configuration)",
    "WORKERS_BUSY": "other jobs before it had the workers",
    "LEAD_LIMIT": "other jobs of its user, or of all, had the leads",
    "STARVED": "other programs used the CPUs of its helpers, which give way to them",
    "STARTING": "its workers were being started, or found nothing to do for a moment",
    "COMBINE": "the results were combined by one worker",
    "UNDO": "it was stopped, and its changes were undone",
}


def explain(job: Job, story: Story) -> str:
    """The client, the time line, the CPU time and the limits of a job."""
    parts = [_head(job), _time_line(job, story), _cpu(job, story), _times(story), _limit(story)]
    return "\n\n".join(filter(None, parts))


def _head(job: Job) -> str:
    pairs = [
        ("job", f"{job.id} {job.function} {job.state}"),
        ("command", job.command),
        ("files", format_files(job)),
        ("accepted", format_time(job.create_time)),
    ]
    return fields(pairs)


def _time_line(job: Job, story: Story) -> str:
    lines = ["time line, from its acceptance on:", *(_moment(story, i) for i in range(len(story.moments)))]
    if not story.moments and (began := _between(job.create_time, job.start_time)) is not None:
        lines.append(_line(began, "its first worker began"))
    ended = _between(job.create_time, job.end_time)
    if ended is not None:
        words = describe_success(job) if job.error is None else describe_failure(job)
        lines.append(_line(ended, printable(words)))
    return "\n".join(lines)


def _line(seconds: float, words: str) -> str:
    return f"  {format_duration(seconds):>12}  {words}"


def _between(begin: object, end: object) -> float | None:
    if isinstance(begin, datetime) and isinstance(end, datetime):
        return max((end - begin).total_seconds(), 0.0)
    return None


def _moment(story: Story, number: int) -> str:
    moment = story.moments[number]
    before = story.moments[number - 1] if number else None
    words = [_who(moment)]
    if moment.chunks_recalled and before is not None:
        words.append(f"{moment.chunks_recalled} chunks taken back")
    if moment.causes:
        words.append("because of " + _all_causes(moment.causes, story))
    if moment.merged:
        words.append(f"and then {moment.merged} more changes")
    return _line(moment.seconds, printable("; ".join(words)))


def _who(moment: Moment) -> str:
    stage = moment.state.lower()
    workers = []
    if moment.leads:
        workers.append("a lead")
    if moment.helpers:
        workers.append(f"{moment.helpers} helper{'' if moment.helpers == 1 else 's'}")
    if workers:
        return f"{stage}: {' and '.join(workers)}"
    return "waits" if stage == "queued" else f"{stage}: no worker"


def _all_causes(codes: tuple[str, ...], story: Story) -> str:
    known = {cause.code: cause for cause in story.causes}
    return ", ".join(f"{code} ({words})" if (words := _short(code, known)) else code for code in codes)


def _short(code: str, known: dict[str, Cause]) -> str:
    cause = known.get(code)
    return cause.message if cause is not None else ""


def _cpu(job: Job, story: Story) -> str:
    cpu = job.cpu
    total = cpu.lead_seconds + cpu.helper_seconds
    words = f"CPU time: {total:.2f} s: leads {cpu.lead_seconds:.2f} s, helpers {cpu.helper_seconds:.2f} s"
    if story.step_seconds:
        words += f"; {story.step_seconds:.2f} s of it for steps such as combining and undo"
    counts = [
        f"{count} {what}"
        for what, count in (
            ("chunks taken back", cpu.chunks_recalled),
            ("run again after a worker died", cpu.chunks_rerun),
            ("run twice", cpu.chunks_run_twice),
            ("helpers raised", cpu.helpers_raised),
        )
        if count
    ]
    return "\n".join([words, *(["  " + ", ".join(counts)] if counts else [])])


def _times(story: Story) -> str:
    if not story.causes:
        return ""
    return "\n".join(["what limited it, and for how long:", *(f"  {line}" for line in _causes(story))])


def _causes(story: Story) -> Iterator[str]:
    whole = sum(cause.seconds for cause in story.causes)
    for cause in story.causes:
        if cause.seconds < _SMALL * whole:
            return
        yield f"{format_duration(cause.seconds):>12}  {describe_cause(cause)}"


def describe_cause(cause: Cause) -> str:
    """A cause with its words, value and threshold."""
    measured = ", ".join(filter(None, [cause.value, cause.threshold and f"threshold {cause.threshold}"]))
    words = _WORDS.get(cause.code) or cause.message
    more = cause.message if cause.code in _WORDS and cause.message else ""
    text = f"{cause.code}: {words}" if words else cause.code
    text += f"; {more}" if more else ""
    return printable(f"{text} ({measured})" if measured else text)


def _limit(story: Story) -> str:
    if not story.limit:
        return "limited by: nothing; it took no time"
    found = next((cause for cause in story.causes if cause.code == story.limit), None)
    words = describe_cause(found) if found is not None else story.limit
    workers = f"{story.threads} worker{'' if story.threads == 1 else 's'}"
    return f"limited by: {words}\n  it may have {workers} at the same time"
