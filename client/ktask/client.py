"""The synchronous client."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from ktask import convert
from ktask.core import Draft, check_int, check_labels, check_text, mode_request
from ktask.errors import DaemonNotFound, DaemonNotTrusted, JobFailed, KtaskError, SystemDaemonUnused
from ktask.link import embedded, locate, starting
from ktask.link.locate import Place
from ktask.link.session import ENDED, Session
from ktask.own.executor import Executor
from ktask.own.functions import Own, drafted, with_result
from ktask.results import Drained, Function, Job, JobState, Reloaded, Status, Update
from ktask.source import Source
from ktask.turns import ITEMS_AT_ONCE, joined, turns
from ktask.v1 import jobs_pb2 as pb

_STATE_NAMES = frozenset(pb.JobState.keys())
_PAGE_MAX = 1000
_MAX_THREADS = 4
"""Workers of a job that does not say. Source: the contract, JobSpec.max_threads"""

Value = TypeVar("Value")
_ANSWER_TIMEOUT_S = 90.0
"""A daemon that systemd starts at the first connection may take as long as systemd lets it: who
gave up earlier on a slow machine would start another one beside it. Source: systemd-system.conf(5),
DefaultTimeoutStartSec"""
_LOOK_S = 2.0
"""Between two looks at whether somebody still listens there."""
_NO_ANSWER = "accepts connections, but no daemon answers"


def connect(target: str | os.PathLike[str] | None = None, *, own: bool = False, start: bool = True) -> Client:
    """Connect to a daemon, and see that it answers.

    Looks at `target`, else at the environment's KTASKD_SOCKET, and at nothing
    else if either is given; else at $XDG_RUNTIME_DIR/ktaskd/ and /run/ktaskd/.
    A daemon that was named and is just starting is waited for (`ktask.link.starting`).
    Where nobody answers there, it uses this user's embedded daemon, which it
    starts if there is none, and which ends by itself when it is idle. Where
    there is a daemon at /run/ktaskd that cannot be used, it warns of that
    (SystemDaemonUnused).

    Only a daemon of root, of this user, or the system's at /run/ktaskd gets anything;
    `ktask.link.trust` has the rule. Another user's is passed over where it was not named.

    Args:
        target: a directory with the daemon's sockets, or its gRPC socket.
        own: look for a daemon of this user only, which runs functions of this
            program's own; not for the system's.
        start: whether to start an embedded daemon where none answers.
    Raises:
        DaemonNotFound: nobody answers; it names what was tried.
        DaemonNotTrusted: a daemon of another user was named. Nothing was sent to it.
    """
    return Client(open_session(target, own=own, start=start))


def open_session(
    target: str | os.PathLike[str] | None = None,
    *,
    own: bool = False,
    start: bool = True,
    warn: Callable[[str], object] | None = None,
) -> Session:
    """What `connect` says, without the client around it.

    Args:
        warn: called with the text of a warning; None = it becomes a Python warning.
    """
    place = starting.wait_until_up(lambda: locate.named(target, os.environ))
    if place is not None:
        return _answering(place)
    tried, unused = [], []
    # The embedded daemon is where the per-user one would be.
    for usual in () if own else locate.usual(os.environ):
        try:
            return _answering(usual)
        except (DaemonNotFound, DaemonNotTrusted) as error:
            tried.append(str(error))
            if locate.is_system(usual):
                unused.append(locate.with_next_step(usual, str(error)))
    directory = embedded.directory_of(os.environ)
    try:
        found = embedded.find_or_start(directory) if start else embedded.place_in(directory)
        session = _answering(found)
    except (DaemonNotFound, DaemonNotTrusted) as error:
        steps = unused if start else [*unused, embedded.NEXT_STEP]
        raise DaemonNotFound("daemon: none answers", [*tried, str(error), *steps]) from None
    for text in unused:
        (warn or _warn)(f"{text}; a daemon of your own is used instead: {found}")
    return session


def _warn(text: str) -> None:
    """Warn at the first line of the program that is not ktask's."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ktask":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, SystemDaemonUnused, stacklevel=level)


def _answering(place: Place) -> Session:
    """A session with a daemon that has answered a call."""
    silent = locate.why_silent(place)
    if silent:
        raise DaemonNotFound(f'socket "{place}": {silent}')
    try:
        session = Session(place)
    except OSError as error:  # its directory went after it was looked at
        raise DaemonNotFound(f'socket "{place}": {error.strerror}') from error
    try:
        _wait_for_answer(session)
    except BaseException:
        session.close()
        raise
    return session


def _wait_for_answer(session: Session) -> None:
    """Wait for one answer, as long as somebody is there who may give it."""
    place, until_s = session.place, time.monotonic() + _ANSWER_TIMEOUT_S
    while True:
        left_s = until_s - time.monotonic()
        try:
            session.functions(timeout=max(min(left_s, _LOOK_S), 0.001))
            return
        except KtaskError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                raise
            # One that was ending when it was looked at would be waited for in vain.
            silent = locate.why_silent(place)
            if silent or error.code == "UNAVAILABLE" or left_s <= _LOOK_S:
                raise DaemonNotFound(f'socket "{place}": {silent or _NO_ANSWER}') from error


class Client:
    """A connection to a daemon. `connect` makes one; close it, or use `with`.

    Thread-safe. It does not survive os.fork: connect again in the child.
    Everything raises KtaskError when the daemon refuses or cannot be reached,
    and TypeError or ValueError for arguments that cannot be right.
    """

    def __init__(self, session: Session) -> None:
        """Take over an open session."""
        self._session = session

    @property
    def socket(self) -> str:
        """Path of the daemon's gRPC socket."""
        return self._session.place.socket

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
            function: its name, as in `functions`; or one of your own, see `ktask.own.functions`.
            arg: arguments by name: int, float, bool or str; for your own anything.
            ranges: pieces to process, as (start, length) or (start, length, nid), in
                positions; None = all of the first source, or all items. A nid of -1 is any
                node. Without one, a piece of memory is processed on the node that this
                program runs on, a piece of a file anywhere.
            items: sources counted one by one, for functions that accept them. More than
                4000 are worked on by several jobs, one after the other; the last one is
                returned, with the results of all.
            min_chunk: fewest positions worth a worker; 0 = the function's own.
            max_threads: most workers at one time; 0 = 4.
            undo: False leaves completed chunks as they are when the job fails.
            undo, combine, align, writes: of a function of your own.
            timeout: seconds until the job is cancelled; None = never.
            progress: called in this thread with the job whenever it has moved.
            labels: names and values of your own, by which `jobs` finds the job: at most 16, each
                of at most 256 bytes of UTF-8.
            **sources: what to work on, by role: memory, a file, a path (opened here with
                the access that the function declares, made if it writes), something open,
                or a Handle.
        Returns:
            The job, SUCCEEDED; its `result` is what the function found.
        Raises:
            JobFailed: it ended otherwise; `.job` says how, and what was undone.
            KtaskError: it was refused, or the daemon went away.
            OSError: a path cannot be opened.
        """
        own = Own(
            *(function, undo, combine, arg, ranges, items, min_chunk, max_threads, align, writes, sources)
        )
        with drafted(own, self._session.place) as draft:
            job = self._run(replace(draft, labels=check_labels(labels)), timeout, progress)
        return with_result(job) if callable(function) else job

    def _run(self, draft: Draft, timeout: float | None, progress: Callable[[Job], object] | None) -> Job:
        until_s = None if _check_timeout(timeout) is None else time.monotonic() + float(timeout or 0)

        def run(one: Draft) -> Job:
            left_s = None if until_s is None else max(until_s - time.monotonic(), 0.001)
            return convert.job(self._session.run(one, left_s, _on_job(progress)))

        job = joined(self._session, map(run, turns(draft, ITEMS_AT_ONCE)))
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

        All are begun at once, in workers; `Executor` says what that means. Leaving the
        loop over the results cancels the rest.

        Args:
            *items: several are taken in step, as by the built-in map.
            max_threads: most workers at one time; 0 = 4.
            timeout: seconds from now after which waiting for a result raises TimeoutError.
            chunksize: items of one call, which then come and fail together.
            labels: of the jobs that the calls are done by, as in `run`.
        Raises:
            Exception: whatever the function raised, at its place among the results.
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
        """Submit a detached job: it goes on when this program ends.

        Args are those of `run`, but `timeout` bounds the submission, in
        seconds, and not the job; `watch` takes the place of `progress`.

        Returns:
            The job as accepted.
        """
        draft = Draft(function, arg, ranges, items, min_chunk, max_threads, undo, sources, labels)
        return convert.job(self._session.submit(draft, _check_timeout(timeout)))

    def watch(self, job: Job | str, *, after_sequence: int = 0) -> Iterator[Update]:
        """Follow a job until it has ended.

        The first update is a snapshot, the last one has `final` set. A stream
        that is cut is resumed where it was: no result is lost, none comes twice.

        Args:
            job: the job or its id.
            after_sequence: leave out results up to this update's `sequence`.
        """
        for message in self._session.watch(id=_id(job), after_sequence=after_sequence):
            yield convert.update(message)

    def cancel(self, job: Job | str, *, wait: bool = True) -> Job:
        """Cancel a job; one that has ended stays as it is.

        Args:
            wait: return when its undo has ended; False returns at once.
        """
        message = self._session.cancel(id=_id(job))
        if wait and message.state not in ENDED:
            message = self._session.wait(id=_id(job)) or message
        return convert.job(message)

    def job(self, job: Job | str) -> Job:
        """A job as it is now."""
        return convert.job(self._session.get(id=_id(job)))

    def jobs(
        self,
        *,
        states: Iterable[JobState | str] = (),
        function: str = "",
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
    ) -> Iterator[Job]:
        """The caller's jobs, newest first, ended ones included while they are kept.

        Args:
            states, function, labels: only jobs that match all of these.
            page_size: jobs asked for at a time; 0 = 100.
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
        """The functions that the daemon offers, or the one of this name, by name."""
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
            seconds: "auto" again after so long; None = never.
        Returns:
            The daemon as it is then.
        """
        return convert.status(self._session.set_mode(mode_request(mode, seconds)).status)

    def drain(self, *, resume: bool = False) -> Drained:
        """Have the daemon refuse new jobs, or with `resume` take them again; admins only."""
        response = self._session.drain(resume)
        return Drained(response.draining, response.jobs_left)

    def reload(self) -> Reloaded:
        """Have the daemon read its configuration again; admins only."""
        response = self._session.reload()
        return Reloaded(tuple(response.applied), tuple(response.needs_restart))

    def close(self) -> None:
        """End the connection; jobs that are waited for are cancelled, detached ones go on."""
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
        """Where it is connected to."""
        return f"<ktask.Client {self.socket!r}>"


def _on_job(progress: Callable[[Job], object] | None) -> Callable[[pb.Job], None] | None:
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress: got {progress!r}, wanted something to call")

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
