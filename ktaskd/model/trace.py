"""The trace that a job is part of, as its caller reports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """A position in a distributed trace. Source: W3C Trace Context, level 1.

    Args:
        trace_id: 32 hexadecimal digits, lower case.
        span_id: 16 of them: the caller's span, which the job is a child of.
        state: the caller's tracestate, in printable ASCII; "" = none.
    """

    trace_id: str = ""
    span_id: str = ""
    state: str = ""


NO_TRACE = Trace()
