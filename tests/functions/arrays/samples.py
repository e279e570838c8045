"""Sample numbers, and sources that hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ktaskd.worker.sources import Source
from tests.functions.inprocess import lay_out

Numbers = np.ndarray[Any, Any]


def put(source: Source, numbers: Numbers) -> None:
    data = numbers.tobytes()
    lay_out(source, len(data), [(0, data)])


def some(dtype: str, count: int) -> Numbers:
    rng = np.random.default_rng(7)
    if dtype.startswith("float"):
        return (rng.standard_normal(count) * 10.0 ** rng.integers(-20, 20, count)).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return rng.integers(low, high, count, dtype=dtype, endpoint=True)
