"""Numbers are reduced like in numpy, with the same bits however the job is cut."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions.arrays.exact import ExactSum
from ktaskd.functions.arrays.numbers import BLOCK, TYPES
from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.model.limits import PART_BYTES_MAX
from ktaskd.worker.failures import encoded
from ktaskd.worker.sources import Source
from tests.functions.arrays.samples import put, some
from tests.functions.inprocess import Recorder, opened, seal

REDUCE = find("array.reduce")


DEFAULTS: dict[str, Any] = {"dtype": "float64", "op": "sum", "bins": 64, "low": 0.0, "high": 1.0}


def reduced(source: Source, cuts: list[int] | None = None, **arg: Any) -> dict[str, Any]:
    """The result of a job with these inner edges, with parts combined in an odd grouping."""
    size = source.size()
    context = Context({**DEFAULTS, **arg}, {"data": source}, {}, (0, size), True)
    REDUCE.prepare(context)
    edges = sorted({0, size, *(cut for cut in cuts or () if cut < size)})
    parts = []
    for start, end in pairwise(edges):
        stop_after = 2
        while start < end:
            start, part = REDUCE.run(context, start, end, Recorder(stop_after=stop_after))
            assert part is not None
            parts.append(json.loads(encoded(part)))
            stop_after = -1
    while len(parts) > 3:
        parts[-2:] = [REDUCE.combine(context, parts[-2:])]
    return REDUCE.combine(context, parts)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["sealed", "file"])
def test_reduce_when_cut_anywhere_then_as_numpy_and_the_same(dtype: str, kind: str, tmp_path: Path) -> None:
    numbers = some(dtype, 2 * BLOCK // np.dtype(dtype).itemsize + 1003)
    exact = sum(map(Fraction, numbers.tolist())) if dtype == "float64" else None
    with opened(kind, tmp_path) as source:
        put(source, numbers)
        if kind == "sealed":
            seal(source)
        for op, wanted in (("min", numbers.min()), ("max", numbers.max()), ("sum", None), ("mean", None)):
            found = reduced(source, dtype=dtype, op=op)
            assert reduced(source, [BLOCK, 2 * BLOCK], dtype=dtype, op=op) == found
            assert found["count"] == len(numbers)
            if wanted is not None:
                assert found["value"] == wanted.item()
            elif dtype.startswith("float"):
                reference = math.fsum(numbers.tolist()) / (len(numbers) if op == "mean" else 1)
                assert found["value"] == pytest.approx(reference, rel=1e-9)
            else:
                total = sum(numbers.tolist())
                assert found["value"] == (total if op == "sum" else float(Fraction(total, len(numbers))))
    assert exact is None or math.isfinite(exact)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(), max_size=12), st.randoms())
def test_exact_sum_when_in_any_order_then_the_same_and_rounded_once(
    values: list[float], rng: random.Random
) -> None:
    sums = [ExactSum.of(value) for value in values]
    while len(sums) > 1:
        i = rng.randrange(len(sums) - 1)
        sums[i : i + 2] = [ExactSum.parse(str(sums[i] + sums[i + 1]))]
    found = sums[0].divided(1) if sums else 0.0
    if all(map(math.isfinite, values)):
        try:
            wanted = float(sum(map(Fraction, values), Fraction()))
        except OverflowError:
            wanted = math.inf if sum(map(Fraction, values), Fraction()) > 0 else -math.inf
    else:
        wanted = sum(value for value in values if not math.isfinite(value))
    assert found == wanted or (math.isnan(found) and math.isnan(wanted))


def test_floats_when_nan_or_infinite_then_returned_as_text(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        for values, op, wanted in (
            ([1.0, math.nan], "sum", "nan"),
            ([math.inf, -math.inf], "sum", "nan"),
            ([math.inf, 1.0], "mean", "inf"),
            ([math.inf, 1.0], "min", 1.0),
            ([-math.inf, 1.0], "min", "-inf"),
            ([1.0, math.nan, -3.0], "max", "nan"),
        ):
            put(source, np.array(values))
            assert reduced(source, op=op)["value"] == wanted


def test_sum_when_finite_numbers_are_too_large_together_then_still_right(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.array([1.7e308, 1.7e308, -1.7e308]))
        assert reduced(source)["value"] == pytest.approx(1.7e308)
        put(source, np.array([1.7e308, 1.7e308]))
        assert reduced(source)["value"] == "inf"
        assert reduced(source, op="mean")["value"] == pytest.approx(1.7e308)


def test_least_when_it_is_zero_then_without_a_sign(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.array([0.0, -0.0, 1.0]))
        assert str(reduced(source, op="min")["value"]) == "0.0"


def test_sum_when_mapped_or_read_then_the_same_bits(tmp_path: Path) -> None:
    found = []
    for dtype in ("float32", "float64"):
        for kind in ("sealed", "file"):
            with opened(kind, tmp_path) as source:
                put(source, some(dtype, 700_001))
                if kind == "sealed":
                    seal(source)
                found.append(reduced(source, dtype=dtype)["exact"])
    assert (found[0], found[2]) == (found[1], found[3])


def test_reduce_when_the_user_changed_then_all_is_still_read(tmp_path: Path) -> None:
    """A wiped buffer keeps its length."""
    with opened("file", tmp_path) as source:
        put(source, some("int16", BLOCK))
        before = reduced(source, dtype="int16")
        REDUCE.wipe()
        assert reduced(source, dtype="int16") == before


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint64"])
def test_histogram_when_cut_anywhere_then_as_numpy(dtype: str, tmp_path: Path) -> None:
    numbers = some(dtype, 700_000)
    if dtype == "float32":
        numbers[::1000] = np.nan
        numbers[1::1000] = 1.0
    arg: dict[str, Any] = {"dtype": dtype, "op": "histogram", "bins": 1000, "low": -5.0, "high": 1.0}
    with opened("file", tmp_path) as source:
        put(source, numbers)
        found = reduced(source, [BLOCK], **arg)
        assert found == reduced(source, **arg)
    counts, _ = np.histogram(numbers, bins=1000, range=(-5.0, 1.0))
    assert found["counts"] == counts.tolist()
    assert sum(found["counts"]) + found["below"] + found["above"] + found["nan"] == found["count"] == 700_000
    assert len(encoded(found)) < PART_BYTES_MAX


def test_reduce_when_there_is_nothing_then_no_value(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        assert reduced(source) == {"value": 0.0, "count": 0, "exact": "0x0p0"}
        assert reduced(source, dtype="int8")["value"] == 0
        assert reduced(source, op="mean")["value"] is None
        assert reduced(source, op="min") == {"value": None, "count": 0}
        assert reduced(source, op="histogram", bins=3)["counts"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ({"dtype": "complex"}, 'argument "dtype": got "complex", wanted int8, '),
        ({"op": "median"}, 'argument "op": got "median", wanted sum, mean, min, max or histogram'),
        ({"op": "histogram", "low": 1.0}, 'arguments "low" and "high": got 1 and 1'),
        ({"op": "histogram", "low": math.nan}, 'arguments "low" and "high": got nan and 1'),
    ],
)
def test_reduce_when_arguments_do_not_fit_then_refused(arg: dict[str, Any], words: str) -> None:
    with pytest.raises(OSError, match=words):
        REDUCE.prepare(Context({**DEFAULTS, **arg}, {}, {}, (0, 8), True))


def test_numbers_when_one_is_cut_then_refused() -> None:
    with pytest.raises(OSError, match='"data": a range begins or ends at 12, wanted a multiple of 8'):
        REDUCE.prepare(Context(DEFAULTS, {}, {}, (0, 12), True))


def test_wipe_when_called_then_no_number_is_left(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.ones(BLOCK // 8))
        reduced(source)
    REDUCE.wipe()
    assert not any(REDUCE._buffer)  # type: ignore[attr-defined]
