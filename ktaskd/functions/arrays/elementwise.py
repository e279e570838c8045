"""Changes numbers in place with one of numpy's functions."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ktaskd.functions.arrays.numbers import BLOCK, dtype_of, require_elements
from ktaskd.functions.body import Context, Control, Json
from ktaskd.functions.quanta import Buffered, cut
from ktaskd.functions.restoring import Target
from ktaskd.functions.transfer import read_full, require_size

Change = Callable[[memoryview], None]

UNARY: Mapping[str, np.ufunc] = {
    name: getattr(np, name)
    for name in ("absolute", "ceil", "exp", "floor", "invert", "log", "negative", "rint", "sqrt", "square")
}

BINARY: Mapping[str, np.ufunc] = {
    name: getattr(np, name)
    for name in (
        *("add", "bitwise_and", "bitwise_or", "bitwise_xor", "divide", "floor_divide", "maximum", "minimum"),
        *("multiply", "power", "remainder", "subtract"),
    )
}
"""The other operand is one number."""


class Map(Buffered):
    """array.map."""

    quantum = BLOCK

    def __init__(self) -> None:
        """Allocate a buffer for the numbers of one block."""
        super().__init__(BLOCK)

    def prepare(self, context: Context) -> Json:
        """Refuse arguments that do not fit together before any number changes."""
        _change(context)
        require_elements(context, "data")
        return {}

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Change the numbers in [start, end)."""
        source, change = context.sources["data"], _change(context)
        require_elements(context, "data", start, end)
        require_size(source, "data", end)
        target = Target(source, "data", self._buffer)
        for first, after in cut(start, end, BLOCK):
            if control.quantum(first):
                return first, None
            require_size(source, "data", context.span[1])
            target.touched = first
            try:
                self._piece(target, change, first, after)
            except BaseException:
                # Report exactly the bytes that may have changed, so that no others are dirty.
                control.quantum(target.touched)
                raise
        control.quantum(end)
        require_size(source, "data", context.span[1])
        return end, None

    def _piece(self, target: Target, change: Change, start: int, end: int) -> None:
        if target.mapped:
            with _view(target, start, end) as view:
                change(view)
            return
        with memoryview(self._buffer)[: end - start] as view:
            read_full(target.source, "data", start, view)
            change(view)
            target.write(start, view)


def _view(target: Target, start: int, end: int) -> memoryview:
    """A writable view of [start, end); if its pages are not available, nothing has changed."""
    try:
        return target.view(start, end)
    except OSError:
        target.touched = start
        raise


def _change(context: Context) -> Change:
    """The function that changes a piece; raises OSError (EINVAL) if the arguments do not fit together."""
    dtype, name = dtype_of(context), str(context.arg["ufunc"])
    function = UNARY.get(name) or BINARY.get(name)
    if function is None:
        wanted = ", ".join(sorted([*UNARY, *BINARY]))
        raise OSError(errno.EINVAL, f'argument "ufunc": got "{name[:64]}", wanted one of {wanted}')
    operands = _operand(context, dtype, name)

    def change(view: memoryview) -> None:
        numbers = np.frombuffer(view, dtype)
        try:
            # Overflow and nan are part of the result, so numpy must not warn of them.
            with np.errstate(all="ignore"):
                function(numbers, *operands, out=numbers, casting="same_kind")
        finally:
            del numbers

    _try(change, dtype, name)
    return change


def _operand(context: Context, dtype: np.dtype[Any], name: str) -> tuple[Any, ...]:
    """The other operand of a function of two numbers."""
    text = str(context.arg["operand"])
    if name in UNARY:
        if text:
            words = f'argument "operand": got "{text[:64]}", but {name} takes none; leave it out'
            raise OSError(errno.EINVAL, words)
        return ()
    try:
        # numpy refuses an int that the type cannot hold, and does not convert "7" implicitly.
        return (dtype.type(float(text) if dtype.kind == "f" else int(text, 0)),)
    except (ValueError, OverflowError) as error:
        words = f'argument "operand": got "{text[:64]}", wanted a number of type {dtype.name}'
        raise OSError(errno.EINVAL, words) from error


def _try(change: Change, dtype: np.dtype[Any], name: str) -> None:
    """Refuse a function whose result has another type, such as a square root of integers."""
    try:
        change(memoryview(bytearray(dtype.itemsize)))
    except (TypeError, ValueError) as error:
        words = f'argument "ufunc": got "{name}", whose result for {dtype.name} has another type'
        raise OSError(errno.EINVAL, words) from error
