"""Makes a job's description from Python arguments. Pure: opens and sends nothing."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

NUMA_NO_NODE = -1
"""The kernel's "any node"."""

RESERVED_ROLES = frozenset(
    {
        "function",
        "arg",
        "ranges",
        "items",
        "min_chunk",
        "max_threads",
        "undo",
        "timeout",
        "progress",
        "labels",
        "combine",
        "align",
        "writes",
    }
)
"""Keywords of `Client.run`; no source can have such a role."""

EXACT_INT_MAX = 2**53
"""Largest integer that JSON numbers hold exactly; larger ones are sent as strings."""

MODES = ("auto", "always", "paused")
"""The modes, in lower case: who decides how many helpers run."""

SECONDS_MAX = 10**9
"""Longest time of a mode here; the daemon's own limit is lower."""

_UINT64_MAX = 2**64 - 1
_UINT32_MAX = 2**32 - 1
_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A job as the caller described it; nothing is checked yet.

    Args:
        sources: by role; `ktask.source` lists the possible types.
        items: sources that are processed one by one; None = none.
        undo: True leaves it to the function, False switches it off.
        labels: names and values of the caller's own, to find the job by; None = none.
        request_id: "" = none.
    """

    function: str
    arg: Mapping[str, Any] | None = None
    ranges: Iterable[Sequence[int]] | None = None
    items: Iterable[Any] | None = None
    min_chunk: int = 0
    max_threads: int = 0
    undo: bool = True
    sources: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    request_id: str = ""


def make_spec(draft: Draft, default_nid: int | None) -> pb.JobSpec:
    """The message of a draft, without its sources and items.

    Args:
        default_nid: node of ranges that name none; None = the contract's
            default, the caller's own node.
    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of bounds.
    """
    for role in draft.sources:
        check_role(role)
    spec = pb.JobSpec(
        function=check_text("function", draft.function),
        min_chunk=check_int("min_chunk", draft.min_chunk, _UINT64_MAX),
        max_threads=check_int("max_threads", draft.max_threads, _UINT32_MAX),
        request_id=check_text("request_id", draft.request_id),
    )
    spec.labels.update(check_labels(draft.labels))
    _set_arg(spec, draft.arg)
    for i, given in enumerate(draft.ranges or ()):
        spec.ranges.append(_range(f"ranges[{i}]", given, default_nid))
    if not isinstance(draft.undo, bool):
        raise TypeError(f"undo: got {draft.undo!r}, wanted True or False")
    if not draft.undo:
        # Absent means "if the function has one"; True would demand an undo.
        spec.undo = False
    return spec


def mode_request(mode: str, seconds: float | None) -> control_pb2.SetModeRequest:
    """The message that requests a mode (upper or lower case) for some seconds; None = forever.

    Raises:
        TypeError, ValueError: the mode or the time is invalid.
    """
    if check_text("mode", mode).lower() not in MODES:
        raise ValueError(f"mode: got {mode!r}, wanted one of {', '.join(MODES)}")
    request = control_pb2.SetModeRequest(mode=control_pb2.Mode.Value(f"MODE_{mode.upper()}"))
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"seconds: got {seconds!r}, wanted a number or None")
        if not 0 < seconds < SECONDS_MAX:
            raise ValueError(f"seconds: got {seconds!r}, wanted more than 0 and less than {SECONDS_MAX}")
        nanos = round(seconds * 1e9)
        request.duration.seconds, request.duration.nanos = divmod(max(nanos, 1), 10**9)
    return request


def check_labels(labels: Any) -> dict[str, str]:
    """Labels, which are the caller's own names and values for a job, as a dict; None = none.

    The daemon limits their number and length.

    Raises:
        TypeError: it is not a mapping of text to text.
        ValueError: a name is empty or contains "=", or UTF-8 cannot hold a text.
    """
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise TypeError(f"labels: got {labels!r}, wanted a mapping of names to values")
    found = {}
    for name, value in labels.items():
        if not check_text("label", name) or "=" in name:
            raise ValueError(f'label "{name}": wanted a name that is not empty and has no "=" in it')
        found[name] = check_text(f'label "{name}"', value)
    return found


def check_role(role: str) -> str:
    """Return `role` if a source may have it; raises TypeError."""
    if role in RESERVED_ROLES:
        raise TypeError(f'"{role}": is a keyword of this call and cannot be the role of a source')
    return check_text("role", role)


def check_int(what: str, value: Any, maximum: int, minimum: int = 0) -> int:
    """Return `value` as an int within the bounds; raises TypeError or ValueError."""
    if isinstance(value, bool):
        raise TypeError(f"{what}: got {value!r}, wanted an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what}: got {value!r}, wanted an integer") from None
    if not minimum <= number <= maximum:
        raise ValueError(f"{what}: got {number}, wanted {minimum} to {maximum}")
    return number


def check_text(what: str, value: Any) -> str:
    """Return `value` if it is a str that UTF-8 can hold; raises TypeError or ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{what}: got {value!r}, wanted a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}: got {value!r}, wanted text that UTF-8 can hold") from None
    return value


def _range(what: str, given: Any, default_nid: int | None) -> pb.Range:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not 2 <= len(given) <= 3:
        raise TypeError(f"{what}: got {given!r}, wanted (start, length) or (start, length, nid)")
    start = check_int(f"{what} start", given[0], _UINT64_MAX)
    length = check_int(f"{what} length", given[1], _UINT64_MAX)
    nid = default_nid
    if len(given) == 3:
        nid = check_int(f"{what} nid", given[2], _INT32_MAX, NUMA_NO_NODE)
    return pb.Range(start=start, length=length, nid=nid)


def _set_arg(spec: pb.JobSpec, arg: Mapping[str, Any] | None) -> None:
    if arg is None:
        return
    if not isinstance(arg, Mapping):
        raise TypeError(f"arg: got {arg!r}, wanted a mapping of names to values")
    for name, value in arg.items():
        _set_value(spec, check_text("arg name", name), value)


def _set_value(spec: pb.JobSpec, name: str, value: Any) -> None:
    """Set one argument, in the form that keeps it exact."""
    slot = spec.arg.fields[name]
    if isinstance(value, bool):
        slot.bool_value = value
    elif isinstance(value, str):
        slot.string_value = check_text(f'arg "{name}"', value)
    elif isinstance(value, numbers.Integral):
        number = int(value)
        if abs(number) <= EXACT_INT_MAX:
            slot.number_value = number
        else:
            slot.string_value = str(number)
    elif isinstance(value, numbers.Real):
        slot.number_value = float(value)
        if not math.isfinite(slot.number_value):
            raise ValueError(f'arg "{name}": got {value!r}, wanted a finite number')
    else:
        raise TypeError(f'arg "{name}": got {value!r}, wanted an int, float, bool or str')
