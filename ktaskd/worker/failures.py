"""How a chunk or a step failed, as the fields of a FAILED frame."""

from __future__ import annotations

import json
import time
import traceback
from typing import Any

from ktaskd.functions.failures import Failed
from ktaskd.model.limits import PART_BYTES_MAX
from ktaskd.worker.frames import check_nesting

Json = dict[str, Any]

_MESSAGE_MAX = 4096
_ERRNO_MAX = 4095
"""Source: include/linux/err.h"""
_TRACEBACK_MAX = 4 * _MESSAGE_MAX


def encoded(value: Json) -> bytes:
    """A chunk's result as bytes; raises ValueError if it is too large or too deep for a frame."""
    part = json.dumps(value, separators=(",", ":")).encode()
    if len(part) > PART_BYTES_MAX:
        raise ValueError(f"result of a chunk: got {len(part)} bytes, wanted at most {PART_BYTES_MAX}")
    check_nesting(part, value)
    return part


def failure(error: Exception, before: int, *, own: bool = False) -> Json:
    """The fields of a FAILED frame for `error`.

    Args:
        before: CPU time of this thread at the begin of the chunk or step, in ns.
        own: the code belongs to the caller, for whom a traceback is useful.
    """
    text = _text_of(error)
    words = f"{type(error).__name__}: {text}"[:_MESSAGE_MAX]
    # Code that raises an OSError may put anything into it.
    number = getattr(error, "errno", 0) if isinstance(error, OSError) else 0
    number = number if isinstance(number, int) and 0 <= number <= _ERRNO_MAX else 0
    message = error.strerror if isinstance(error, OSError) and error.strerror else text
    if own:
        message = words
        words = "".join(traceback.format_exception(error))[-_TRACEBACK_MAX:]
    return {
        "cpu_ns": time.thread_time_ns() - before,
        "reason": error.reason if isinstance(error, Failed) else "",
        "errno": number,
        "exception": words,
        "message": (str(message) or type(error).__name__)[:_MESSAGE_MAX],
    }


def changed_elsewhere(error: Exception) -> list[list[int]]:
    """Spans outside of the chunk that may have changed."""
    return [[first, after] for first, after in error.dirty] if isinstance(error, Failed) else []


def _text_of(error: Exception) -> str:
    """The text of an error; the `__str__` of foreign code may fail itself."""
    try:
        return str(error)
    except Exception as why:
        return f"cannot be put into words: {type(why).__name__}"
