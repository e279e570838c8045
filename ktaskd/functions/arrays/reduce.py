"""Sum, mean, minimum, maximum and histogram of numbers in memory or a file, by numpy."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ktaskd.functions.arrays.exact import ExactSum, json_float
from ktaskd.functions.arrays.numbers import BLOCK, dtype_of, require_elements
from ktaskd.functions.body import Context, Control, Json, OpenSource
from ktaskd.functions.quanta import Buffered, cut
from ktaskd.functions.reading import is_resident
from ktaskd.functions.transfer import read_full, require_size

Numbers = np.ndarray[Any, Any]

_SCALE = 20
"""A block holds at most 2**_SCALE numbers."""

_JOINED = 64
"""Parts of blocks that are gathered before they are joined."""


class Reduce(Buffered):
    """array.reduce.

    numpy gets the same blocks wherever chunks are cut, and its results are joined without rounding.
    """

    quantum = BLOCK

    def __init__(self) -> None:
        """Allocate a buffer for the numbers of one block."""
        super().__init__(BLOCK)

    def prepare(self, context: Context) -> Json:
        """Refuse arguments that do not fit together."""
        _operation(context)
        require_elements(context, "data")
        return {}

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Reduce the numbers in [start, end)."""
        source, operation = context.sources["data"], _operation(context)
        require_elements(context, "data", start, end)
        require_size(source, "data", end)
        parts: list[Json] = []
        position = start
        for position, after in cut(start, end, BLOCK):
            if control.quantum(position):
                break
            parts.append(self._block(source, operation, position, after))
            if len(parts) == _JOINED:
                parts = [operation.join(parts)]
        else:
            position = end
        return position, operation.join(parts)

    def _block(self, source: OpenSource, operation: Operation, start: int, end: int) -> Json:
        resident = is_resident(source)
        pages = source.view(start, end, write=False) if resident else source.cached(start, end)
        if pages is not None:
            with pages:
                return operation.reduce(pages)
        with memoryview(self._buffer)[: end - start] as view:
            read_full(source, "data", start, view)
            return operation.reduce(view)

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """Join all parts; without any, the result of no numbers."""
        return _operation(context).join(parts)


class Operation:
    """Reduces numbers of one type. Parts are joined in the order of their positions."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._float = dtype.kind == "f"

    def reduce(self, view: memoryview) -> Json:
        """The part of one block; keeps no reference to the block."""
        numbers = np.frombuffer(view, self._dtype)
        try:
            # Overflow and nan are part of the result, so numpy must not warn of them.
            with np.errstate(all="ignore"):
                return self.part(numbers)
        finally:
            del numbers

    def part(self, numbers: Numbers) -> Json:
        """The part of at least one number."""
        raise NotImplementedError

    def join(self, parts: Sequence[Json]) -> Json:
        """Join several parts, or none, into one."""
        raise NotImplementedError


class _Sum(Operation):
    def part(self, numbers: Numbers) -> Json:
        count = len(numbers)
        if self._float:
            return self._float_part(_float_sum(numbers), count)
        return self._integer_part(_integer_sum(numbers), count)

    def join(self, parts: Sequence[Json]) -> Json:
        count = sum(part["count"] for part in parts)
        if self._float:
            return self._float_part(sum((ExactSum.parse(part["exact"]) for part in parts), ExactSum()), count)
        return self._integer_part(sum(part["exact"] for part in parts), count)

    def _float_part(self, exact: ExactSum, count: int) -> Json:
        return {"value": json_float(exact.divided(1)), "count": count, "exact": str(exact)}

    def _integer_part(self, exact: int, count: int) -> Json:
        return {"value": exact, "count": count, "exact": exact}


class _Mean(_Sum):
    def _float_part(self, exact: ExactSum, count: int) -> Json:
        value = json_float(exact.divided(count)) if count else None
        return {"value": value, "count": count, "exact": str(exact)}

    def _integer_part(self, exact: int, count: int) -> Json:
        return {"value": ExactSum(exact).divided(count) if count else None, "count": count, "exact": exact}


def _float_sum(numbers: Numbers) -> ExactSum:
    """The sum by numpy; if finite numbers overflow, the sum of scaled-down numbers."""
    total = float(numbers.sum(dtype=np.float64))
    if math.isfinite(total):
        return ExactSum.of(total)
    return ExactSum.of(float((numbers * 2.0**-_SCALE).sum(dtype=np.float64)), _SCALE)


def _integer_sum(numbers: Numbers) -> int:
    """The exact sum. Numbers of 8 bytes are summed in two halves, whose sums fit in 8 bytes."""
    if numbers.dtype.itemsize < 8:
        return int(numbers.sum(dtype=np.int64))
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())


class _Extreme(Operation):
    def __init__(self, dtype: np.dtype[Any], of_numbers: Callable[[Any], Any], of_two: Any) -> None:
        super().__init__(dtype)
        self._of_numbers = of_numbers
        self._of_two = of_two

    def part(self, numbers: Numbers) -> Json:
        found = self._of_numbers(numbers).item()
        # numpy does not promise which of 0.0 and -0.0 it returns.
        return {"value": json_float(found + 0.0) if self._float else found, "count": len(numbers)}

    def join(self, parts: Sequence[Json]) -> Json:
        values = [part["value"] for part in parts if part["value"] is not None]
        count = sum(part["count"] for part in parts)
        if "nan" in values:  # one nan makes the result nan, as in numpy
            return {"value": "nan", "count": count}
        found = self._of_two(values, key=float if self._float else int) if values else None
        return {"value": found, "count": count}


class _Histogram(Operation):
    def __init__(self, dtype: np.dtype[Any], bins: int, low: float, high: float) -> None:
        super().__init__(dtype)
        self._bins = bins
        self._range = (low, high)

    def part(self, numbers: Numbers) -> Json:
        low, high = self._range
        counts, _ = np.histogram(numbers, bins=self._bins, range=self._range)
        return {
            "counts": counts.tolist(),
            "below": int(np.count_nonzero(numbers < low)),
            "above": int(np.count_nonzero(numbers > high)),
            "nan": int(np.count_nonzero(np.isnan(numbers))) if self._float else 0,
            "count": len(numbers),
        }

    def join(self, parts: Sequence[Json]) -> Json:
        total: Json = {name: sum(part[name] for part in parts) for name in ("below", "above", "nan", "count")}
        columns = zip(*(part["counts"] for part in parts), strict=True)
        return {"counts": [sum(column) for column in columns] or [0] * self._bins, **total}


def _operation(context: Context) -> Operation:
    """The operation for the arguments; raises OSError (EINVAL) if they do not fit together."""
    arg, dtype = context.arg, dtype_of(context)
    name = str(arg["op"])
    if name == "histogram":
        low, high = float(arg["low"]), float(arg["high"])
        if not low < high:
            words = f'arguments "low" and "high": got {low:g} and {high:g}, wanted low below high'
            raise OSError(errno.EINVAL, words)
        return _Histogram(dtype, int(arg["bins"]), low, high)
    if name not in _OPERATIONS:
        words = f'argument "op": got "{name[:64]}", wanted {", ".join(_OPERATIONS)} or histogram'
        raise OSError(errno.EINVAL, words)
    return _OPERATIONS[name](dtype)


_OPERATIONS: Mapping[str, Callable[[np.dtype[Any]], Operation]] = {
    "sum": _Sum,
    "mean": _Mean,
    "min": lambda dtype: _Extreme(dtype, np.min, min),
    "max": lambda dtype: _Extreme(dtype, np.max, max),
}
