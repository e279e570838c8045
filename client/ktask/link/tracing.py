"""The trace that a call is part of, as metadata for the daemon: W3C Trace Context.

OpenTelemetry is asked only if the program has loaded it; this module never loads it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

Metadata = tuple[tuple[str, str | bytes], ...]

_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")
"""gRPC refuses metadata with other characters, and tracing must never make a call fail."""


def current_metadata(environ: Mapping[str, str] = os.environ) -> Metadata | None:
    """Return the headers of the present trace; None if there is none.

    They come from the current span of OpenTelemetry, or else from the environment (TRACEPARENT, TRACESTATE).
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None and "TRACEPARENT" not in environ:
        return None  # as for most programs
    found = _of_span(trace) if trace is not None else None
    return found or _headers(environ.get("TRACEPARENT", ""), environ.get("TRACESTATE", ""))


def _of_span(trace: Any) -> Metadata | None:
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 0xFF:02x}"
        return _headers(parent, context.trace_state.to_header())
    except Exception:  # another version of the library, or a program's own module: the job matters more
        return None


def _headers(parent: str, state: str) -> Metadata | None:
    if not _PARENT.fullmatch(parent):
        return None
    head = ("traceparent", parent)
    return (head, ("tracestate", state)) if _STATE.fullmatch(state) else (head,)
