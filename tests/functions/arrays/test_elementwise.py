"""Numbers are changed in place like in numpy, however the job is cut."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ktaskd.functions.arrays.numbers import BLOCK
from ktaskd.functions.bodies import find
from ktaskd.functions.body import Context
from ktaskd.worker.sources import Source
from tests.functions.arrays.samples import put, some
from tests.functions.inprocess import Recorder, content, lay_out, opened, seal

MAP = find("array.map")


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
            '"ufunc": got "sqrt", whose result for int32 has another type',
        ),
        ({"ufunc": "divide", "dtype": "int8", "operand": "2"}, '"divide", whose result for int8 has'),
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
        ({"ufunc": "sqrt", "operand": "1"}, '"operand": got "1", but sqrt takes none'),
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
        with pytest.raises(OSError, match='source "data": ends at 1048576'):
            MAP.run(context, 0, 3 * BLOCK, control)
        assert control.positions[-1] == BLOCK


def test_numbers_when_one_is_cut_then_refused() -> None:
    arg = {"dtype": "float64", "ufunc": "sqrt", "operand": ""}
    with pytest.raises(OSError, match='"data": a range begins or ends at 12, wanted a multiple of 8'):
        MAP.prepare(Context(arg, {}, {}, (0, 12), True))


def test_wipe_when_called_then_no_number_is_left(tmp_path: Path) -> None:
    with opened("file", tmp_path) as source:
        put(source, np.ones(BLOCK // 8))
        mapped(source, ufunc="negative")
    MAP.wipe()
    assert not any(MAP._buffer)  # type: ignore[attr-defined]
