"""What can go wrong, as exceptions. Bad Python arguments are TypeError and ValueError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ktask.results import Job, Span

_SPANS_SHOWN = 8


class KtaskError(Exception):
    """The daemon refused a request, or could not be asked.

    Attributes:
        message: what, which, got, wanted.
        code: name of the gRPC status, as in "INVALID_ARGUMENT"; "" where no
            call is involved.
        reason: UPPER_SNAKE and stable, as in "RANGE_BEYOND_END"; where the
            other side gave none, the code.
        field: path of the field that is wrong, as in "spec.ranges[0].length";
            "" if none is.
        metadata: the varying parts of the message, for programs.
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
        """Remember what was told."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason or code
        self.field = field
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it with all that it carries, whatever its class is made from.

        A pool that cannot unpickle an exception of a call takes itself for broken.
        """
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[KtaskError], args: tuple[Any, ...], state: Mapping[str, Any]) -> KtaskError:
    """Return an error as it was pickled; its class is not asked to make one."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class DaemonNotFound(KtaskError):
    """Nobody answers, and no daemon could be started.

    Attributes:
        tried: what was tried, in order, each with why it did not do.
    """

    def __init__(self, message: str, tried: Sequence[str] = ()) -> None:
        """Name all that was tried."""
        text = "; ".join([message, *tried])
        super().__init__(text, code="UNAVAILABLE", reason="DAEMON_NOT_FOUND")
        self.tried = tuple(tried)


class DaemonNotTrusted(KtaskError):
    """A daemon of another user would get what is handed over; nothing was sent to it.

    Attributes:
        uid: the other user, or the owner of a directory that others may write.
    """

    def __init__(self, message: str, uid: int) -> None:
        """Name the user and the next step in `message`."""
        super().__init__(
            message, code="PERMISSION_DENIED", reason="DAEMON_NOT_TRUSTED", metadata={"uid": str(uid)}
        )
        self.uid = uid


class SystemDaemonUnused(RuntimeWarning):
    """There is a system daemon, which cannot be used; a daemon of this user's own is used instead.

    To make it an error: `warnings.simplefilter("error", ktask.SystemDaemonUnused)`.
    """


class JobFailed(KtaskError):
    """A job ended otherwise than SUCCEEDED.

    `code` is "", since the call itself worked; `reason` is that of the job.

    Attributes:
        job: the ended job, with all that is known of its failure.
    """

    def __init__(self, job: Job) -> None:
        """Put into words how `job` ended."""
        super().__init__(describe_failure(job), reason=job.error.reason if job.error else str(job.state))
        self.job = job
        if job.error is not None and "\n" in job.error.exception:
            self.add_note(f"in the worker:\n{job.error.exception.rstrip()}")


def describe_failure(job: Job) -> str:
    """How a job ended, in one line: state, reason, message, undone, dirty."""
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
    """The first spans, how many more there are, and between which positions all of them lie."""
    shown = ", ".join(f"[{span.start}, {span.end})" for span in spans[:_SPANS_SHOWN])
    left = len(spans) + omitted - _SPANS_SHOWN
    if left <= 0:
        return shown
    between = f", all between {hull.start} and {hull.end}" if hull is not None else ""
    return f"{shown} and {left} more{between}"
