"""Numbers of one type, one after the other."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np

from ktaskd.functions.body import Context

BLOCK = 1 << 20
"""Bytes that numpy sees at one time, from a multiple of it on: interior edges of chunks are such."""

TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
)


def dtype_of(context: Context) -> np.dtype[Any]:
    """By the argument "dtype"; raises OSError (EINVAL)."""
    name = str(context.arg["dtype"])
    if name not in TYPES:
        raise OSError(errno.EINVAL, f'argument "dtype": got "{name[:64]}", wanted {", ".join(TYPES)}')
    return np.dtype(name)


def require_elements(context: Context, role: str, start: int | None = None, end: int | None = None) -> None:
    """Raise OSError (EINVAL) where a span, or else all of the job, has no whole numbers only."""
    first, after = context.span if start is None or end is None else (start, end)
    size = dtype_of(context).itemsize
    for edge in (first, after):
        if edge % size:
            raise OSError(
                errno.EINVAL,
                f'source "{role}": a range begins or ends at {edge}, wanted a multiple of {size}, the size '
                f"of {context.arg['dtype']}",
            )
