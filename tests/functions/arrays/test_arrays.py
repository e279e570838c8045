"""Numbers are reduced and changed as numpy does it, bit by bit the same whatever the cut.

Tests: ktaskd/functions/arrays/reduce.py, ktaskd/functions/arrays/elementwise.py
"""

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
from tests.functions.bodies_in_process import Recorder, content, lay_out, opened, seal

REDUCE, MAP = find("array.reduce"), find("array.map")
DEFAULTS: dict[str, Any] = {"dtype": "float64", "op": "sum", "bins": 64, "low": 0.0, "high": 1.0}
Numbers = np.ndarray[Any, Any]


def reduced(source: Source, cuts: list[int] | None = None, **arg: Any) -> dict[str, Any]:
    """The result of a job with these inner edges, combined in an odd order of brackets."""
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


def put(source: Source, numbers: Numbers) -> None:
    data = numbers.tobytes()
    lay_out(source, len(data), [(0, data)])


def some(dtype: str, count: int) -> Numbers:
    rng = np.random.default_rng(7)
    if dtype.startswith("float"):
        return (rng.standard_normal(count) * 10.0 ** rng.integers(-20, 20, count)).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return rng.integers(low, high, count, dtype=dtype, endpoint=True)


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


def test_floats_when_no_number_or_infinite_then_told_as_text(tmp_path: Path) -> None:
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
    """What is wiped keeps its length."""
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
    for body, arg in ((REDUCE, {}), (MAP, {"ufunc": "sqrt", "operand": ""})):
        with pytest.raises(OSError, match='"data": a range begins or ends at 12, wanted a multiple of 8'):
            body.prepare(Context({**DEFAULTS, **arg}, {}, {}, (0, 12), True))


def mapped(source: Source, cuts: list[int] | None = None, **arg: Any) -> None:
    size = source.size()
    context = Context({"dtype": "float64", "operand": "", **arg}, {"data": source}, {}, (0, size), True)
    MAP.prepare(context)
    for start, end in pairwise(sorted({0, size, *(cuts or ())})):
        reached, part = MAP.run(context, start, end, Recorder(stop_after=1))
        assert part is None
        assert MAP.run(context, reached, end, Recorder()) == (end, None)


@pytest.mark.parametrize("kind", ["sealed", "memfd", "file"])
@pytest.mark.parametrize(
    ("dtype", "ufunc", "operand", "wanted"),
    [
        ("float64", "exp", "", np.exp),
        ("float32", "sqrt", "", np.sqrt),
        ("float64", "divide", "0.1", lambda a: a / 0.1),
        ("uint8", "add", "200", lambda a: a + np.uint8(200)),
        ("int64", "multiply", "-3", lambda a: a * -3),
        ("uint64", "bitwise_xor", "0xffffffffffffffff", lambda a: a ^ np.uint64(2**64 - 1)),
        ("int32", "floor_divide", "0", lambda a: a * 0),
    ],
)
def test_map_when_cut_anywhere_then_as_numpy(
    kind: str, dtype: str, ufunc: str, operand: str, wanted: Any, tmp_path: Path
) -> None:
    numbers = some(dtype, BLOCK // np.dtype(dtype).itemsize + 77)
    with opened(kind, tmp_path) as source, np.errstate(all="ignore"):
        put(source, numbers)
        if kind == "sealed":
            seal(source)
        mapped(source, [BLOCK], dtype=dtype, ufunc=ufunc, operand=operand)
        assert content(source) == wanted(numbers).astype(dtype).tobytes()


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ({"ufunc": "sin"}, 'argument "ufunc": got "sin", wanted one of absolute, add'),
        (
            {"ufunc": "sqrt", "dtype": "int32"},
            '"ufunc": got "sqrt", whose result for int32 is of another kind',
        ),
        ({"ufunc": "divide", "dtype": "int8", "operand": "2"}, '"divide", whose result for int8 is of'),
        ({"ufunc": "invert"}, '"ufunc": got "invert", whose result for float64'),
        ({"ufunc": "add"}, 'argument "operand": got "", wanted a number of type float64'),
        (
            {"ufunc": "add", "operand": "1.5", "dtype": "int8"},
            '"operand": got "1.5", wanted a number of type int8',
        ),
        (
            {"ufunc": "add", "operand": "300", "dtype": "uint8"},
            '"operand": got "300", wanted a number of type uint8',
        ),
        ({"ufunc": "sqrt", "operand": "1"}, '"operand": got "1", wanted none for sqrt'),
        ({"ufunc": "power", "operand": "-1", "dtype": "int8"}, '"ufunc": got "power", whose result'),
    ],
)
def test_map_when_arguments_do_not_fit_then_refused(arg: dict[str, Any], words: str) -> None:
    context = Context({"dtype": "float64", "operand": "", **arg}, {}, {}, (0, 8), True)
    with pytest.raises(OSError, match=words):
        MAP.prepare(context)


def test_map_when_the_source_became_shorter_then_no_more_is_dirty_than_was_begun(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.ones(3 * BLOCK // 8))
        context = Context(
            {"dtype": "float64", "ufunc": "negative", "operand": ""},
            {"data": source},
            {},
            (0, 3 * BLOCK),
            True,
        )

        def shorten(position: int) -> None:
            if position == BLOCK:
                lay_out(source, BLOCK, [(0, np.full(BLOCK // 8, -1.0).tobytes())])

        control = Recorder(on_quantum=shorten)
        with pytest.raises(OSError, match='source "data": truncated, ends at 1048576'):
            MAP.run(context, 0, 3 * BLOCK, control)
        assert control.positions[-1] == BLOCK


def test_wipe_when_called_then_no_number_is_left(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.ones(BLOCK // 8))
        reduced(source)
        mapped(source, ufunc="negative")
    for body in (REDUCE, MAP):
        body.wipe()
    assert not any(REDUCE._buffer)  # type: ignore[attr-defined]
    assert not any(MAP._buffer)  # type: ignore[attr-defined]
