"""Checks of arguments that have to fit together, or whose text has a special form. Pure.

A declaration states the type, choices and bounds of each single argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ktaskd.functions.declared.expression import ExpressionInvalid, check_expression
from ktaskd.model.function import ArgValue

Args = Mapping[str, ArgValue]

PATTERN_BYTES_MAX = 4096
RECORD_BYTES_MAX = 4096
GZIP_LEVEL_MAX = 9

UNARY = ("absolute", "ceil", "exp", "floor", "invert", "log", "negative", "rint", "sqrt", "square")
BINARY = (
    *("add", "bitwise_and", "bitwise_or", "bitwise_xor", "divide", "floor_divide", "maximum", "minimum"),
    *("multiply", "power", "remainder", "subtract"),
)
_OF_INTEGERS = frozenset({"invert", "bitwise_and", "bitwise_or", "bitwise_xor"})
_OF_FLOATS = frozenset({"exp", "log", "sqrt", "divide"})


class RuleBroken(ValueError):
    """The arguments do not fit together; the text says how to change `argument`."""

    def __init__(self, argument: str, problem: str) -> None:
        """Name the argument that has to change."""
        super().__init__(problem)
        self.argument = argument


def check_rules(function: str, arg: Args) -> None:
    """Check the complete arguments of a function, each of which is within its type, choices and bounds.

    Raises:
        RuleBroken: the job would fail with them, whatever its sources are.
    """
    rule = _RULES.get(function)
    if rule is not None:
        rule(arg)


def _compress(arg: Args) -> None:
    if arg["format"] == "gzip" and int(arg["level"]) > GZIP_LEVEL_MAX:
        raise RuleBroken("level", f"got {arg['level']}, wanted at most {GZIP_LEVEL_MAX} for gzip")


def _reduce(arg: Args) -> None:
    low, high = float(arg["low"]), float(arg["high"])
    if arg["op"] == "histogram" and not low < high:
        raise RuleBroken("low", f'got {low:g}, wanted less than argument "high", {high:g}')


def _map(arg: Args) -> None:
    name, dtype, text = str(arg["ufunc"]), str(arg["dtype"]), str(arg["operand"])
    is_float = dtype.startswith("float")
    if name in (_OF_INTEGERS if is_float else _OF_FLOATS):
        raise RuleBroken("ufunc", f'got "{name}", which does not work on {dtype}')
    if name in UNARY:
        if text:
            raise RuleBroken("operand", f'got "{text[:64]}", but {name} takes none; leave it out')
        return
    value = _number(text, dtype)
    if value is None:
        raise RuleBroken("operand", f'got "{text[:64]}", wanted a number of type {dtype}')
    if name == "power" and not is_float and value < 0:
        raise RuleBroken("operand", f'got "{text[:64]}", wanted at least 0 for a power of {dtype}')


def _number(text: str, dtype: str) -> float | None:
    """The number that `text` states; None if it is no number of this type."""
    try:
        if dtype.startswith("float"):
            return float(text)
        number = int(text, 0)
    except ValueError:
        return None
    bits = int(dtype.lstrip("uint"))
    least, most = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return number if least <= number <= most else None


def _pattern(arg: Args) -> None:
    at, size = int(arg["index_at"]), int(arg["index_bytes"])
    try:
        length = len(bytes.fromhex(str(arg["record"])))
    except ValueError as error:
        raise RuleBroken("record", f"{error}, wanted hex digits, two for each byte") from error
    if not 1 <= length <= RECORD_BYTES_MAX:
        raise RuleBroken("record", f"got {length} bytes, wanted 1 to {RECORD_BYTES_MAX}")
    if size not in (4, 8):
        raise RuleBroken("index_bytes", f"got {size}, wanted 4 or 8")
    if at >= 0 and at + size > length:
        problem = f"got {at}, wanted {size} bytes of index inside a record of {length} bytes"
        raise RuleBroken("index_at", problem)


def _search(arg: Args) -> None:
    pattern = str(arg["pattern"])
    length = len(pattern.encode())
    if length > PATTERN_BYTES_MAX:
        raise RuleBroken("pattern", f"got {length} bytes, wanted at most {PATTERN_BYTES_MAX}")
    if "\n" in pattern:
        raise RuleBroken("pattern", "has a newline, which no line contains; remove it")
    if arg["regex"]:
        try:
            check_expression(pattern)
        except ExpressionInvalid as error:
            raise RuleBroken("pattern", f"not a regular expression of RE2: {error}") from error


_RULES: Mapping[str, Callable[[Args], None]] = {
    "array.map": _map,
    "array.reduce": _reduce,
    "file.compress": _compress,
    "mem.pattern": _pattern,
    "text.search": _search,
    "text.extract": _search,
}
