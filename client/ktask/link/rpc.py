"""The gRPC channel, and gRPC's errors as ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ktask.errors import KtaskError


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Load gRPC inside, and it logs only errors, unless the user has set GRPC_VERBOSITY.

    Otherwise a program that forks next to a connection gets a line on its terminal for each fork:
    "Other threads are currently calling into gRPC, skipping fork() handlers". The handlers stay
    enabled, because a child that connects again would hang without them. gRPC reads the variable
    when it is loaded, so calls and children of the program never see it.
    """
    name = "GRPC_VERBOSITY"
    if name in os.environ:
        yield
        return
    os.environ[name] = "ERROR"
    try:
        yield
    finally:
        del os.environ[name]


with _without_notes():
    # Other modules import it from here, so that it is always loaded this way.
    import grpc as grpc

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Largest message received or sent; the daemon's own limits are lower."""

_DETAILS_KEY = "grpc-status-details-bin"

_OPTIONS = (
    # The default would be the percent-encoded path of the socket, which some servers refuse.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Each client has a connection of its own, which ends when the client is closed.
    ("grpc.use_local_subchannel_pool", 1),
    # An embedded daemon ends when no client is connected any more, so stay connected.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    # Find a restarted daemon soon.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def open_channel(target: str) -> grpc.Channel:
    """A channel to `target`; the first call dials it."""
    return grpc.insecure_channel(target, options=_OPTIONS)


def code_of(error: grpc.RpcError) -> str:
    """Name of the status of a failed call."""
    code = error.code()
    return code.name if code is not None else "UNKNOWN"


def translate(error: grpc.RpcError) -> KtaskError:
    """A failed call as the exception that the library raises."""
    # Loaded only when a call has failed.
    from google.protobuf.message import DecodeError
    from google.rpc import error_details_pb2, status_pb2

    code = code_of(error)
    reason, field, metadata = "", "", {}
    # The type stubs declare a metadata item as an object; it is a pair.
    trailing: Any = error.trailing_metadata() or ()
    for packed in (value for key, value in trailing if key == _DETAILS_KEY):
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        # Unreadable details must not hide the error itself.
        with contextlib.suppress(DecodeError):
            for detail in status_pb2.Status.FromString(packed).details:
                if detail.Unpack(info):
                    reason, metadata = info.reason, dict(info.metadata)
                elif detail.Unpack(bad) and bad.field_violations:
                    field = bad.field_violations[0].field
    return KtaskError(error.details() or code, code=code, reason=reason, field=field, metadata=metadata)
