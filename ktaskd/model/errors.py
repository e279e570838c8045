"""Errors of requests, each with the code that the caller gets.

A message says what happened to which part of the request, and what to do about it. `api` maps `Code` to
gRPC; nothing below it knows gRPC. The failure of a job is data (`model.job.JobError`), not an exception.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Code(Enum):
    """The kind of an error; the names are gRPC's."""

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
    """Base of all errors that are sent to a caller.

    Args:
        message: what happened, and the next step.
        field: path of the wrong field of the request, such as "spec.ranges[0].length"; "" = none.
        **metadata: the variable parts of the message, for programs.
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, field: str = "", **metadata: str) -> None:
        """Keep what is sent to the caller."""
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata = metadata


class SpecInvalid(KtaskError):
    """The request is wrong, whatever state the daemon is in."""

    code = Code.INVALID_ARGUMENT
    reason = "SPEC_INVALID"


class ArgumentInvalid(KtaskError):
    """An argument of a function is unknown, missing or of the wrong type."""

    code = Code.INVALID_ARGUMENT
    reason = "ARGUMENT_INVALID"


class SourceInvalid(KtaskError):
    """A source's role is unknown, missing, or given twice."""

    code = Code.INVALID_ARGUMENT
    reason = "SOURCE_INVALID"


class LimitExceeded(KtaskError):
    """The request exceeds a fixed limit."""

    code = Code.INVALID_ARGUMENT
    reason = "LIMIT_EXCEEDED"


class RangeBeyondEnd(KtaskError):
    """A range reaches beyond the end of its source."""

    code = Code.OUT_OF_RANGE
    reason = "RANGE_BEYOND_END"


class FunctionUnknown(KtaskError):
    """No thread function has this name."""

    code = Code.NOT_FOUND
    reason = "FUNCTION_UNKNOWN"


class JobUnknown(KtaskError):
    """There is no such job, or it is another user's; the caller cannot distinguish the two."""

    code = Code.NOT_FOUND
    reason = "JOB_UNKNOWN"


class HandleUnknown(KtaskError):
    """There is no such handle, or it is another user's; the caller cannot distinguish the two."""

    code = Code.NOT_FOUND
    reason = "HANDLE_UNKNOWN"


class PathNotFound(KtaskError):
    """The daemon finds no file at a path."""

    code = Code.NOT_FOUND
    reason = "PATH_NOT_FOUND"


class RequestIdReused(KtaskError):
    """The request_id was already used for another spec."""

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
    """No job can use the descriptor that was passed."""

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
    """The caller has reached the limit of something for one uid."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUOTA_FULL"


class QueueFull(KtaskError):
    """The daemon has reached its limit of jobs."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class MemoryLimited(KtaskError):
    """The memory that the function allocates cannot be charged to the caller's memory cgroup."""

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
    """The check of a passed descriptor did not end in time."""

    code = Code.UNAVAILABLE
    reason = "KEEPER_SILENT"


class Draining(KtaskError):
    """The daemon accepts no new jobs now."""

    code = Code.UNAVAILABLE
    reason = "DRAINING"


class ReloadFailed(KtaskError):
    """The configuration file is invalid; the old values stay in force."""

    code = Code.FAILED_PRECONDITION
    reason = "CONFIG_INVALID"
