"""Arrays of numbers: reduce, and change in place."""

from __future__ import annotations

from ktaskd.functions.declared.common import CHANGED, MIB
from ktaskd.functions.declared.rules import BINARY, UNARY
from ktaskd.model.function import Access, ArgType, Argument, Declaration, Partial, SourceRole

_DTYPE = Argument(
    "dtype",
    ArgType.STRING,
    "float64",
    "Type of the numbers: int8 to int64, uint8 to uint64, float32 or float64, in this machine's byte order.",
    choices=(
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float32", "float64"),
    ),
)

_ARRAY_REDUCE = Declaration(
    name="array.reduce",
    summary=(
        "Reduces the numbers of a file or memory to one value with numpy: sum, mean, minimum, maximum, or a "
        "histogram. Integers are summed exactly. Floats are summed as float64 in blocks of 1 MiB, and the "
        "blocks exactly (exact), so the result is bit for bit the same however the job is cut. nan and inf "
        "are returned as text; the minimum, maximum or mean of no numbers is null."
    ),
    align=MIB,
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=MIB,
    sources=(SourceRole("data", Access.READ, "The numbers, one after the other."),),
    arguments=(
        _DTYPE,
        Argument(
            "op",
            ArgType.STRING,
            "sum",
            "The result to compute: sum, mean, min, max or histogram.",
            choices=("sum", "mean", "min", "max", "histogram"),
        ),
        Argument("bins", ArgType.INT, 64, "For a histogram: number of bins, all of the same width.", 1, 1000),
        Argument("low", ArgType.FLOAT, 0.0, "For a histogram: lower edge of the first bin."),
        Argument("high", ArgType.FLOAT, 1.0, "For a histogram: upper edge of the last bin, inclusive."),
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
        "Changes each number in place with a numpy function of one number (absolute, ceil, exp, floor, "
        "invert, log, negative, rint, sqrt, square) or of the number and an operand (add, bitwise_and, "
        "bitwise_or, bitwise_xor, divide, floor_divide, maximum, minimum, multiply, power, remainder, "
        "subtract). Integers wrap around."
    ),
    align=MIB,
    min_chunk=MIB,
    probe=8 * MIB,
    quantum=MIB,
    sources=(SourceRole("data", Access.READ_WRITE, "The numbers, one after the other."),),
    arguments=(
        _DTYPE,
        Argument(
            "ufunc",
            ArgType.STRING,
            None,
            "The function, by its numpy name.",
            choices=tuple(sorted((*UNARY, *BINARY))),
        ),
        Argument("operand", ArgType.STRING, "", "The operand of a function of two numbers, as text."),
    ),
    allocates=True,
    partial=Partial.NONE,
    writes_bytes=True,
    lifecycle=True,
    needs=("numpy",),
)

DECLARATIONS = (_ARRAY_REDUCE, _ARRAY_MAP)
