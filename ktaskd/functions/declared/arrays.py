"""Arrays of numbers: reduced, and changed in place."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, MIB
from ktaskd.functions.declared.rules import BINARY, UNARY
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_DTYPE = Argument(
    "dtype",
    ArgType.STRING,
    "float64",
    "Type of the numbers: int8 to int64, uint8 to uint64, float32 or float64, as this machine stores them.",
    choices=(
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float32", "float64"),
    ),
)

_ARRAY_REDUCE = Declaration(
    name="array.reduce",
    summary=(
        "Works out one value of all numbers of a file or memory, by numpy: their sum, mean, least or "
        "greatest, or a histogram. Integers are summed up exactly; floats in blocks of 1 MiB as float64, and "
        "the blocks exactly (exact), so that the result is the same bit by bit whatever the cut. nan and inf "
        "are told as text, and the least, greatest or mean of nothing as null."
    ),
    align=MIB,
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ, "The numbers, one after the other."),),
    arguments=(
        _DTYPE,
        Argument(
            "op",
            ArgType.STRING,
            "sum",
            "What to work out: sum, mean, min, max or histogram.",
            choices=("sum", "mean", "min", "max", "histogram"),
        ),
        Argument("bins", ArgType.INT, 64, "Of a histogram: how many, all of the same width.", 1, 1000),
        Argument("low", ArgType.FLOAT, 0.0, "Of a histogram: where the first one begins."),
        Argument("high", ArgType.FLOAT, 1.0, "Of a histogram: where the last one ends, which it includes."),
        CHANGED,
    ),
    steady=True,
    partial=Partial.RERUN_SAFE,
    combine=True,
    lifecycle=True,
    needs=("numpy",),
)

_ARRAY_MAP = Declaration(
    name="array.map",
    summary=(
        "Changes each number in place, by one of numpy's functions of one number (absolute, ceil, exp, "
        "floor, invert, log, negative, rint, sqrt, square) or of it and an operand (add, bitwise_and, "
        "bitwise_or, bitwise_xor, divide, floor_divide, maximum, minimum, multiply, power, remainder, "
        "subtract). Integers wrap around."
    ),
    align=MIB,
    min_chunk=MIB,
    probe=8 * MIB,
    sources=(SourceRole("data", Access.READ_WRITE, "The numbers, one after the other."),),
    arguments=(
        _DTYPE,
        Argument(
            "ufunc",
            ArgType.STRING,
            None,
            "The function, by numpy's name.",
            choices=tuple(sorted((*UNARY, *BINARY))),
        ),
        Argument("operand", ArgType.STRING, "", "The other number of a function of two, as text."),
    ),
    allocates=True,
    partial=Partial.NONE,
    writes_bytes=True,
    lifecycle=True,
    needs=("numpy",),
)

DECLARATIONS = (_ARRAY_REDUCE, _ARRAY_MAP)
