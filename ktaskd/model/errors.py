"""Errors of a request, each with the code a caller sees.

Message form: what, which, got, wanted. `api` maps `Code` to gRPC; nothing
below it knows gRPC. How a job ended is data (`model.job.JobError`), not one of
these.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Code(Enum):
    """What kind of refusal it is; the names are gRPC's."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class KtaskError(Exception):
    """Base of all errors that are told to a caller.

    Args:
        message: what, which, got, wanted.
        field: path of the request field that is wrong, as in
            "spec.ranges[0].length"; empty if none is.
        **metadata: the varying parts of the message, for programs.
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", **metadata: str) -> None:
        """Remember what to tell the caller."""
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata = metadata


class SpecInvalid(KtaskError):
    """Wrong whatever the state of the daemon is."""

    code = Code.INVALID_ARGUMENT
    reason = "SPEC_INVALID"


class ArgumentInvalid(KtaskError):
    """An argument of a function is unknown, missing or of the wrong type."""

    code = Code.INVALID_ARGUMENT
    reason = "ARGUMENT_INVALID"


class SourceInvalid(KtaskError):
    """A role is unknown, missing, or given twice."""

    code = Code.INVALID_ARGUMENT
    reason = "SOURCE_INVALID"


class LimitExceeded(KtaskError):
    """The request is larger than any request may be."""

    code = Code.INVALID_ARGUMENT
    reason = "LIMIT_EXCEEDED"


class RangeBeyondEnd(KtaskError):
    """A range ends after its source does."""

    code = Code.OUT_OF_RANGE
    reason = "RANGE_BEYOND_END"


class FunctionUnknown(KtaskError):
    """No thread function has this name."""

    code = Code.NOT_FOUND
    reason = "FUNCTION_UNKNOWN"


class JobUnknown(KtaskError):
    """No such job, or not the caller's; the two cannot be told apart."""

    code = Code.NOT_FOUND
    reason = "JOB_UNKNOWN"


class HandleUnknown(KtaskError):
    """No such handle, or not the caller's; the two cannot be told apart."""

    code = Code.NOT_FOUND
    reason = "HANDLE_UNKNOWN"


class PathNotFound(KtaskError):
    """The daemon finds nothing at a path."""

    code = Code.NOT_FOUND
    reason = "PATH_NOT_FOUND"


class RequestIdReused(KtaskError):
    """The same request_id was used for another spec."""

    code = Code.ALREADY_EXISTS
    reason = "REQUEST_ID_REUSED"


class NotAllowed(KtaskError):
    """The caller's uid may not do this."""

    code = Code.PERMISSION_DENIED
    reason = "NOT_ALLOWED"


class IdentityMissing(KtaskError):
    """The call did not come through the public socket."""

    code = Code.UNAUTHENTICATED
    reason = "IDENTITY_MISSING"


class FdUnsuitable(KtaskError):
    """What was passed cannot be worked on, whatever the job."""

    code = Code.FAILED_PRECONDITION
    reason = "FD_UNSUITABLE"


class AccessMissing(KtaskError):
    """A source was opened with less access than the function needs."""

    code = Code.FAILED_PRECONDITION
    reason = "ACCESS_MISSING"


class FunctionUnavailable(KtaskError):
    """The function exists but cannot be run on this machine."""

    code = Code.FAILED_PRECONDITION
    reason = "FUNCTION_UNAVAILABLE"


class QuotaFull(KtaskError):
    """The caller has as many of something as one uid may have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_FULL"


class QueueFull(KtaskError):
    """The daemon holds as many jobs as it may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class MemoryLimited(KtaskError):
    """What the function allocates could not be charged to the caller's memory cgroup."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MEMORY_LIMITED"


class MemoryShort(KtaskError):
    """The machine has less memory than the job would allocate."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MEMORY_SHORT"


class WatchTooSlow(KtaskError):
    """A reader of a stream did not keep up."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "WATCH_TOO_SLOW"


class KeeperSilent(KtaskError):
    """Looking at a passed descriptor did not end in time."""

    code = Code.UNAVAILABLE
    reason = "KEEPER_SILENT"


class Draining(KtaskError):
    """The daemon takes no new jobs now."""

    code = Code.UNAVAILABLE
    reason = "DRAINING"


class ReloadFailed(KtaskError):
    """The configuration file is wrong; the old values stay in force."""

    code = Code.FAILED_PRECONDITION
    reason = "CONFIG_INVALID"
