"""Exceptions of the library. Invalid Python arguments raise TypeError and ValueError instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktask.results import Job, Span

_SPANS_SHOWN = 8


class KtaskError(Exception):
    """The daemon refused a request, or could not be reached.

    Attributes:
        message: what happened, and the next step.
        code: name of the gRPC status, such as "INVALID_ARGUMENT"; "" if no
            call was made.
        reason: UPPER_SNAKE and stable, such as "RANGE_BEYOND_END"; the code if
            the daemon gave no reason.
        field: path of the invalid field, such as "spec.ranges[0].length"; ""
            if no field is at fault.
        metadata: the variable parts of the message, for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Store the parts; `code` stands in for a missing `reason`."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason or code
        self.field = field
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all attributes, without calling the class again, whatever arguments that takes.

        A process pool that cannot unpickle the exception of a call considers itself broken.
        """
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[KtaskError], args: tuple[Any, ...], state: Mapping[str, Any]) -> KtaskError:
    """Restore a pickled error without calling `__init__`."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DaemonNotFound(KtaskError):
    """No daemon answers, and none could be started.

    Attributes:
        tried: what was tried, in order, each with the reason why it failed.
    """

    def __init__(self, message: str, tried: Sequence[str] = ()) -> None:
        """Name every attempt in the message."""
        text = "; ".join([message, *tried])
        super().__init__(text, code="UNAVAILABLE", reason="DAEMON_NOT_FOUND")
        self.tried = tuple(tried)


class DaemonNotTrusted(KtaskError):
    """A daemon of another user would get the program's data; nothing was sent to it.

    Attributes:
        uid: the other user, or the owner of a directory that other users may write.
    """

    def __init__(self, message: str, uid: int) -> None:
        """`message` names the user and the next step."""
        super().__init__(
            message, code="PERMISSION_DENIED", reason="DAEMON_NOT_TRUSTED", metadata={"uid": str(uid)}
        )
        self.uid = uid


class SystemDaemonUnused(RuntimeWarning):
    """A system daemon exists but is not used; a daemon of this user's own is used instead.

    To make it an error: `warnings.simplefilter("error", ktask.SystemDaemonUnused)`.
    """


class JobFailed(KtaskError):
    """A job ended in another state than SUCCEEDED.

    `code` is "", since the call itself worked; `reason` is the job's.

    Attributes:
        job: the ended job, with all details of its failure.
    """

    def __init__(self, job: Job) -> None:
        """Describe how `job` ended."""
        super().__init__(describe_failure(job), reason=job.error.reason if job.error else str(job.state))
        self.job = job
        if job.error is not None and "\n" in job.error.exception:
            self.add_note(f"in the worker:\n{job.error.exception.rstrip()}")


def describe_failure(job: Job) -> str:
    """Describe in one line how a job ended: state, reason, message, undone, dirty."""
    error = job.error
    parts = [f"job {job.id} ({job.spec.function}) ended {job.state}"]
    if error is None:
        return parts[0]
    parts.append(": ".join(filter(None, [error.reason, error.message])))
    if error.undone:
        spans = _format_spans(error.undone, error.undone_omitted, error.undone_hull)
        parts.append(f"undone: {spans}")
    if error.dirty:
        spans = _format_spans(error.dirty, error.dirty_omitted, error.dirty_hull)
        parts.append(f"dirty: {spans}")
    return "; ".join(parts)


def _format_spans(spans: Sequence[Span], omitted: int, hull: Span | None) -> str:
    """The first spans, the number of further ones, and the positions between which all of them lie."""
    shown = ", ".join(f"[{span.start}, {span.end})" for span in spans[:_SPANS_SHOWN])
    left = len(spans) + omitted - _SPANS_SHOWN
    if left <= 0:
        return shown
    between = f", all between {hull.start} and {hull.end}" if hull is not None else ""
    return f"{shown} and {left} more{between}"
