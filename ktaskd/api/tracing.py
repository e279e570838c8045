"""Reads W3C Trace Context from the metadata of a call. Pure.

As the standard asks, a header of another form counts as missing and is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ktaskd.model.trace import NO_TRACE, Trace

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?")
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_\-*/]{0,240}(@[a-z][a-z0-9_\-*/]{0,13})?"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
PARENT_MAX, STATE_MAX, MEMBERS_MAX = 128, 512, 32
"""Longest headers in characters, and most members of a tracestate. Source of the last two: the standard."""


def trace_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> Trace:
    """Return the trace of a call; NO_TRACE if the call has none."""
    parents, states = [], []
    for key, value in metadata or ():
        if key == "traceparent":
            parents.append(value)
        elif key == "tracestate":
            states.append(value)
    if len(parents) != 1 or not isinstance(parents[0], str):
        return NO_TRACE
    found = _ids(parents[0])
    if found is None:
        return NO_TRACE
    return Trace(*found, _state([one for one in states if isinstance(one, str)]))


def _ids(parent: str) -> tuple[str, str] | None:
    match = _PARENT.fullmatch(parent) if len(parent) <= PARENT_MAX else None
    if match is None:
        return None
    version, trace_id, span_id, more = match.groups()
    # A later version may add parts at the end; "ff" is none.
    if version == "ff" or (version == "00" and more) or not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return trace_id, span_id


def _state(headers: list[str]) -> str:
    """Join the headers; return "" if any member is wrong, since a part of a tracestate is none."""
    if sum(map(len, headers)) > STATE_MAX:
        return ""
    members = [member.strip(" \t") for header in headers for member in header.split(",")]
    members = [member for member in members if member]
    if len(members) > MEMBERS_MAX or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)
