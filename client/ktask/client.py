"""The synchronous client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from ktask import convert
from ktask.core import Draft, check_int, check_labels, check_text, mode_request
from ktask.declarations import Function
from ktask.errors import JobFailed
from ktask.link.connect import open_session
from ktask.link.session import ENDED, Session
from ktask.own.executor import Executor
from ktask.own.functions import Own, drafted, with_result
from ktask.results import Job, JobState, Story, Update
from ktask.source import Source
from ktask.splitting import ITEMS_AT_ONCE, join, split
from ktask.status import Drained, Reloaded, Status
from ktask.v1 import jobs_pb2 as pb

_STATE_NAMES = frozenset(pb.JobState.keys())
_PAGE_MAX = 1000
_MAX_THREADS = 4
"""The default. Source: the contract, JobSpec.max_threads"""

Value = TypeVar("Value")


def connect(target: str | os.PathLike[str] | None = None, *, own: bool = False, start: bool = True) -> Client:
    """Connect to a daemon, and check that it answers.

    If `target` or the environment's KTASKD_SOCKET names a daemon, only that one is tried, and
    waited for if it is just starting (`ktask.link.starting`). Otherwise the daemons at
    $XDG_RUNTIME_DIR/ktaskd/ and /run/ktaskd/ are tried. If neither answers, this user's embedded
    daemon is used; it is started if necessary, and ends when it is idle. If a daemon at
    /run/ktaskd exists but is not used, it warns with SystemDaemonUnused.

    The library sends data only to a daemon of root, of this user, or the system's at /run/ktaskd;
    `ktask.link.trust` has the rule. A daemon of another user is skipped, unless it was named.

    Args:
        target: a directory with the daemon's sockets, or its gRPC socket.
        own: use only a daemon of this user, which runs functions of this program's own, and
            not the system's.
        start: whether to start an embedded daemon if no other answers.
    Raises:
        DaemonNotFound: no daemon answers; the error names what was tried.
        DaemonNotTrusted: `target` or KTASKD_SOCKET names a daemon of another user. Nothing was
            sent to it.
    """
    return Client(open_session(target, own=own, start=start))


class Client:
    """A connection to a daemon, made by `connect`; close it, or use `with`.

    Thread-safe. It does not survive os.fork: connect again in the child.
    All methods raise KtaskError when the daemon refuses or cannot be reached,
    and TypeError or ValueError for invalid arguments.
    """

    def __init__(self, session: Session) -> None:
        """Take over an open session."""
        self._session = session

    @property
    def socket(self) -> str:
        """Path of the daemon's gRPC socket."""
        return self._session.endpoint.socket

    def run(
        self,
        function: str | Callable[..., Any],
        *,
        arg: Any = None,
        ranges: Iterable[Sequence[int]] | None = None,
        items: Iterable[Source] | None = None,
        min_chunk: int = 0,
        max_threads: int = 0,
        undo: bool | Callable[..., Any] = True,
        combine: Callable[[list[Any]], Any] | None = None,
        align: int = 1,
        writes: bool | None = None,
        timeout: float | None = None,
        progress: Callable[[Job], object] | None = None,
        labels: Mapping[str, str] | None = None,
        **sources: Source,
    ) -> Job:
        """Run a job and wait until it has succeeded.

        Ctrl-C, like any exception in this thread, cancels the job, waits for its undo, and
        is raised then; a second Ctrl-C ends that wait.

        Args:
            function: its name, as in `functions`; or a callable of your own, see `ktask.own.functions`.
            arg: arguments by name: int, float, bool or str; any value for a function of your own.
            ranges: pieces to process, as (start, length) or (start, length, nid), in
                positions; None = all of the first source, or all items. A nid of -1 means any
                node. Without a nid, a piece of memory is processed on the node that this
                program runs on, and a piece of a file anywhere.
            items: sources that are processed one by one, for functions that accept them. More
                than 4000 take several jobs, one after the other; the last job is returned, with
                the results of all.
            min_chunk: fewest positions worth a worker; 0 = the function's default.
            max_threads: most workers at the same time; 0 = 4.
            undo: False leaves completed chunks as they are when the job fails.
            undo, combine, align, writes: for a function of your own.
            timeout: seconds until the job is cancelled; None = never.
            progress: called in this thread with the job whenever it has moved.
            labels: names and values of your own, by which `jobs` finds the job: at most 16, each
                of at most 256 bytes of UTF-8.
            **sources: what to work on, by role: memory, a file, a path (opened here with
                the access that the function declares, and created if it writes), an object
                with a fileno(), or a Handle.
        Returns:
            The job, SUCCEEDED; its `result` is what the function found.
        Raises:
            JobFailed: the job ended in another state; `.job` has the details, and what was undone.
            KtaskError: the job was refused, or the connection to the daemon was lost.
            OSError: a path cannot be opened.
        """
        own = Own(
            *(function, undo, combine, arg, ranges, items, min_chunk, max_threads, align, writes, sources)
        )
        with drafted(own, self._session.endpoint) as draft:
            job = self._run(replace(draft, labels=check_labels(labels)), timeout, progress)
        return with_result(job) if callable(function) else job

    def _run(self, draft: Draft, timeout: float | None, progress: Callable[[Job], object] | None) -> Job:
        until_s = None if _check_timeout(timeout) is None else time.monotonic() + float(timeout or 0)

        def run(one: Draft) -> Job:
            left_s = None if until_s is None else max(until_s - time.monotonic(), 0.001)
            return convert.job(self._session.run(one, left_s, _on_job(progress)))

        job = join(self._session, map(run, split(draft, ITEMS_AT_ONCE)))
        if job.state is not JobState.SUCCEEDED:
            raise JobFailed(job)
        return job

    def map(
        self,
        function: Callable[..., Value],
        *items: Iterable[Any],
        max_threads: int = 0,
        timeout: float | None = None,
        chunksize: int = 1,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[Value]:
        """Results of a function of your own for each of the items, in their order.

        All calls are queued at once and run in workers, see `Executor`. Leaving the loop over
        the results cancels the remaining ones.

        Args:
            *items: several iterables are taken in step, as by the built-in map.
            max_threads: most workers at the same time; 0 = 4.
            timeout: seconds from now after which waiting for a result raises TimeoutError.
            chunksize: items in one call; their results arrive and fail together.
            labels: labels of the jobs that run the calls, as in `run`.
        Raises:
            Exception: whatever the function raised, when its result is due.
        """
        executor = Executor(max_threads or _MAX_THREADS, client=self, labels=labels)
        return executor.map(function, *items, timeout=timeout, chunksize=chunksize)

    def submit(
        self,
        function: str,
        *,
        arg: Mapping[str, Any] | None = None,
        ranges: Iterable[Sequence[int]] | None = None,
        items: Iterable[Source] | None = None,
        min_chunk: int = 0,
        max_threads: int = 0,
        undo: bool = True,
        timeout: float | None = None,
        labels: Mapping[str, str] | None = None,
        **sources: Source,
    ) -> Job:
        """Submit a detached job, which goes on when this program ends.

        The arguments are those of `run`, except that `timeout` (seconds) limits the
        submission and not the job, and `watch` replaces `progress`.

        Returns:
            The job as accepted.
        """
        draft = Draft(function, arg, ranges, items, min_chunk, max_threads, undo, sources, labels)
        return convert.job(self._session.submit(draft, _check_timeout(timeout)))

    def watch(self, job: Job | str, *, after_sequence: int = 0) -> Iterator[Update]:
        """Follow a job until it has ended.

        The first update is a snapshot, and the last one has `final` set. A stream that
        was cut is resumed where it was: no result is lost or repeated.

        Args:
            job: the job or its id.
            after_sequence: skip results up to the update with this `sequence`.
        """
        for message in self._session.watch(id=_id(job), after_sequence=after_sequence):
            yield convert.update(message)

    def cancel(self, job: Job | str, *, wait: bool = True) -> Job:
        """Cancel a job; a job that has ended stays as it is.

        Args:
            wait: True returns when its undo has ended, False at once.
        """
        message = self._session.cancel(id=_id(job))
        if wait and message.state not in ENDED:
            message = self._session.wait(id=_id(job)) or message
        return convert.job(message)

    def job(self, job: Job | str) -> Job:
        """A job as it is now."""
        return convert.job(self._session.get(id=_id(job)))

    def explain(self, job: Job | str) -> Story:
        """The history of a job so far: what it waited for, who worked on it, and what limited it."""
        return convert.story(self._session.explain(id=_id(job)).story)

    def jobs(
        self,
        *,
        states: Iterable[JobState | str] = (),
        function: str = "",
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
    ) -> Iterator[Job]:
        """The caller's jobs, newest first, including ended ones that the daemon still keeps.

        Args:
            states, function, labels: only jobs that match all of these.
            page_size: jobs in one request to the daemon; 0 = 100.
        """
        request = pb.ListRequest(
            page_size=check_int("page_size", page_size, _PAGE_MAX),
            states=[_state_number(state) for state in states],
            function=check_text("function", function),
            labels=check_labels(labels),
        )
        for page in self._session.pages(request):
            yield from map(convert.job, page.jobs)

    def functions(self, name: str | None = None) -> list[Function]:
        """The functions that the daemon offers, sorted by name, or only the one of this name."""
        response = self._session.functions(name or "")
        return [convert.function(one) for one in response.functions]

    def status(self) -> Status:
        """The daemon as it is now."""
        return convert.status(self._session.status().status)

    def set_mode(self, mode: str, seconds: float | None = None) -> Status:
        """Set who decides how many helpers may run; admins only.

        Args:
            mode: "auto" (the daemon, from what it reads of the machine), "always"
                (all helpers) or "paused" (none, and detached jobs wait).
            seconds: "auto" again after this time; None = never.
        Returns:
            The daemon's status after that.
        """
        return convert.status(self._session.set_mode(mode_request(mode, seconds)).status)

    def drain(self, *, resume: bool = False) -> Drained:
        """Have the daemon refuse new jobs, or with `resume` accept them again; admins only."""
        response = self._session.drain(resume)
        return Drained(response.draining, response.jobs_left)

    def reload(self) -> Reloaded:
        """Have the daemon read its configuration again; admins only."""
        response = self._session.reload()
        return Reloaded(tuple(response.applied), tuple(response.needs_restart))

    def close(self) -> None:
        """End the connection; jobs that a thread waits for are cancelled, detached ones go on."""
        self._session.close()

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """The socket that it is connected to."""
        return f"<ktask.Client {self.socket!r}>"


def _on_job(progress: Callable[[Job], object] | None) -> Callable[[pb.Job], None] | None:
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress: got {progress!r}, wanted a callable")

    def on_job(message: pb.Job) -> None:
        progress(convert.job(message))

    return on_job


def _check_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout: got {timeout!r}, wanted seconds or None")
    if not 0 < timeout < float("inf"):
        raise ValueError(f"timeout: got {timeout!r}, wanted more than 0 s")
    return float(timeout)


def _id(job: Job | str) -> str:
    return job.id if isinstance(job, Job) else check_text("job", job)


def _state_number(state: JobState | str) -> pb.JobState.ValueType:
    name = f"JOB_STATE_{str(state).upper()}"
    if name not in _STATE_NAMES:
        raise ValueError(f"state: got {state!r}, wanted one of {', '.join(JobState)}")
    return pb.JobState.Value(name)
