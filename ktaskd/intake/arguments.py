"""A function's arguments: given values checked, converted and completed. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from ktaskd.functions.declared.rules import RuleBroken, check_rules
from ktaskd.model.errors import ArgumentInvalid
from ktaskd.model.function import ArgType, Argument, ArgValue, Declaration

EXACT_FLOAT = 2**53
"""Integers up to this survive in a JSON number."""

_FLOAT_MAX = sys.float_info.max


def check_arguments(given: Mapping[str, ArgValue], declaration: Declaration) -> dict[str, ArgValue]:
    """All arguments of a function, with defaults filled in.

    Raises:
        ArgumentInvalid: one is unknown, missing, not of its type, choices or bounds, or
            does not fit to the others.
    """
    known = {argument.name: argument for argument in declaration.arguments}
    for name in given:
        if name not in known:
            wanted = ", ".join(f'"{other}"' for other in known) or "no arguments"
            raise ArgumentInvalid(
                f'argument "{name}": function "{declaration.name}" has no such argument, wanted {wanted}',
                field=f"spec.arg.{name}",
                argument=name,
            )
    complete = {name: _value(argument, given, declaration) for name, argument in known.items()}
    try:
        check_rules(declaration.name, complete)
    except RuleBroken as broken:
        raise _invalid(known[broken.argument], str(broken)) from None
    return complete


def _value(argument: Argument, given: Mapping[str, ArgValue], declaration: Declaration) -> ArgValue:
    if argument.name not in given:
        if argument.default is None:
            raise _invalid(argument, f'got none, function "{declaration.name}" needs it')
        return argument.default
    value = convert(argument, given[argument.name])
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_bounds(argument, value)
    if argument.choices and value not in argument.choices:
        raise _invalid(argument, f"got {_shown(value)}, wanted {_listed(argument.choices)}")
    return value


def convert(argument: Argument, value: ArgValue) -> ArgValue:
    """The value in its declared type; raises ArgumentInvalid if it is of another."""
    if argument.type is ArgType.BOOL and isinstance(value, bool):
        return value
    if argument.type is ArgType.STRING and isinstance(value, str):
        return value
    if argument.type is ArgType.FLOAT and _is_finite(value):
        return float(value)
    if argument.type is ArgType.INT and not isinstance(value, bool):
        number = _integer(value)
        if number is not None:
            return number
    raise _invalid(argument, f"got {_shown(value)}, wanted {_WANTED[argument.type]}")


def _shown(value: ArgValue) -> str:
    """As the caller wrote it, which is JSON: true, "x", 1.5, NaN, and 1 although it came as 1.0."""
    if isinstance(value, str):
        return f'"{value[:64]}"'
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e18
    return json.dumps(int(value) if whole else value)[:64]


def _listed(choices: Sequence[str]) -> str:
    """Words as in "a, b or c"."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


_WANTED = {
    ArgType.BOOL: "true or false",
    ArgType.STRING: "a string",
    ArgType.FLOAT: "a number",
    ArgType.INT: "an integer (above 2^53 as a string)",
}


def _is_finite(value: ArgValue) -> bool:
    # An integer may be larger than any float, and comparing the two is exact.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT_MAX


def _integer(value: ArgValue) -> int | None:
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= EXACT_FLOAT else None
    digits = value.removeprefix("-")
    # isdecimal alone takes digits of other scripts, and int() limits the length.
    return int(value) if digits.isascii() and digits.isdecimal() and len(digits) <= 40 else None


def _check_bounds(argument: Argument, value: float) -> None:
    if argument.minimum is not None and value < argument.minimum:
        raise _invalid(argument, f"got {_shown(value)}, wanted at least {_shown(argument.minimum)}")
    if argument.maximum is not None and value > argument.maximum:
        raise _invalid(argument, f"got {_shown(value)}, wanted at most {_shown(argument.maximum)}")


def _invalid(argument: Argument, problem: str) -> ArgumentInvalid:
    return ArgumentInvalid(
        f'argument "{argument.name}": {problem}', field=f"spec.arg.{argument.name}", argument=argument.name
    )
