"""Our errors as gRPC statuses. The only place that knows both."""

from __future__ import annotations

import logging
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from ktaskd.model.errors import Code, KtaskError

DOMAIN = "ktask"
"""ErrorInfo.domain of every error of ours."""

log = logging.getLogger(__name__)


def to_status(error: KtaskError) -> Status:
    """The google.rpc.Status of an error: ErrorInfo always, BadRequest where a field is wrong."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status = Status(code=error.code.value, message=error.message)
    status.details.append(_pack(info))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    return status


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


class OurBug(KtaskError):
    """Something that must not happen did; the caller learns no more than that."""

    code = Code.INTERNAL
    reason = "INTERNAL"


async def abort(context: grpc.aio.ServicerContext[object, object], error: Exception) -> NoReturn:
    """End a call with an error. What is not ours is logged, and told as INTERNAL."""
    if not isinstance(error, KtaskError):
        log.error("handler_failed error=%s", type(error).__name__, exc_info=error)
        error = OurBug("internal error of the daemon, its log has the story")
    # abort_with_status exists on the async context, but its stubs do not know it.
    status = rpc_status.to_status(to_status(error))
    context.set_trailing_metadata(tuple(status.trailing_metadata or ()))
    await context.abort(status.code, status.details or "")
    raise AssertionError("abort returned")
