"""The type of an array's numbers."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np

from ktaskd.functions.body import Context

BLOCK = 1 << 20
"""Bytes that numpy works on at once. Blocks begin at multiples of it, and so do interior chunk edges."""

TYPES = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
)


def dtype_of(context: Context) -> np.dtype[Any]:
    """The type that the argument "dtype" names; raises OSError (EINVAL)."""
    name = str(context.arg["dtype"])
    if name not in TYPES:
        raise OSError(errno.EINVAL, f'argument "dtype": got "{name[:64]}", wanted {", ".join(TYPES)}')
    return np.dtype(name)


def require_elements(context: Context, role: str, start: int | None = None, end: int | None = None) -> None:
    """Raise OSError (EINVAL) if a span cuts a number in two.

    Args:
        start, end: the span; None = the whole job.
    """
    first, after = context.span if start is None or end is None else (start, end)
    size = dtype_of(context).itemsize
    for edge in (first, after):
        if edge % size:
            raise OSError(
                errno.EINVAL,
                f'source "{role}": a range begins or ends at {edge}, wanted a multiple of {size} '
                f"(bytes of one {context.arg['dtype']})",
            )
