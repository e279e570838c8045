"""Arguments of functions: what is taken, what is refused, and in which words."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.intake.arguments import check_arguments, convert
from ktaskd.model.errors import ArgumentInvalid
from ktaskd.model.function import ArgType, Argument, ArgValue, Declaration

INT = Argument("count", ArgType.INT, 1, "", 0, 255)
FLOAT = Argument("rate", ArgType.FLOAT, 0.5, "", 0, 10)
BOOL = Argument("deep", ArgType.BOOL, False, "")
STRING = Argument("pattern", ArgType.STRING, None, "")
DECLARATION = Declaration("f", "", arguments=(INT, FLOAT, BOOL, STRING))

NAN, INF = float("nan"), float("inf")


def test_arguments_when_some_are_given_then_completed_with_defaults() -> None:
    checked = check_arguments({"pattern": "x", "count": "255", "rate": 3}, DECLARATION)
    assert checked == {"count": 255, "rate": 3.0, "deep": False, "pattern": "x"}
    assert type(checked["rate"]) is float
    assert type(checked["count"]) is int


@pytest.mark.parametrize(
    ("argument", "value", "wanted"),
    [
        (INT, 7.0, 7),
        (INT, -0.0, 0),
        (INT, str(2**63), 2**63),
        (INT, "-12", -12),
        (INT, float(2**53), 2**53),
        (FLOAT, 1, 1.0),
        (BOOL, True, True),
        (STRING, "", ""),
    ],
)
def test_convert_when_the_type_fits_then_the_value(
    argument: Argument, value: ArgValue, wanted: ArgValue
) -> None:
    converted = convert(argument, value)
    assert converted == wanted
    assert type(converted) is type(wanted)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *((INT, value) for value in (True, 1.5, NAN, INF, -INF, float(2**54), "", "-", "--1", "+1", "1e3")),
        *((INT, value) for value in (" 1", "1_0", "0x1", "١", "²", "9" * 5000, "1.0")),  # noqa: RUF001
        *((FLOAT, value) for value in (True, NAN, INF, -INF, "1.0", 10**400)),
        *((BOOL, value) for value in (0, 1, 1.0, "true")),
        *((STRING, value) for value in (0, 1.5, True)),
    ],
)
def test_convert_when_the_type_is_wrong_then_refused(argument: Argument, value: ArgValue) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        convert(argument, value)
    error = caught.value
    assert error.field == f"spec.arg.{argument.name}"
    assert f'argument "{argument.name}": got ' in error.message
    assert "wanted " in error.message
    assert len(error.message) < 500


@pytest.mark.parametrize(
    ("given_arguments", "field", "words"),
    [
        ({"count": 256}, "count", "got 256, wanted at most 255"),
        ({"count": "-1"}, "count", "got -1, wanted at least 0"),
        ({"rate": 10.5}, "rate", "got 10.5, wanted at most 10"),
        ({"speed": 1}, "speed", 'no such argument, wanted "count", "rate", "deep", "pattern"'),
    ],
)
def test_arguments_when_out_of_bounds_or_unknown_then_refused(
    given_arguments: dict[str, ArgValue], field: str, words: str
) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        check_arguments({"pattern": "x", **given_arguments}, DECLARATION)
    assert caught.value.field == f"spec.arg.{field}"
    assert caught.value.metadata == {"argument": field}
    assert words in caught.value.message


def test_arguments_when_a_needed_one_is_missing_then_refused() -> None:
    with pytest.raises(ArgumentInvalid, match='argument "pattern": got none, function "f" needs it'):
        check_arguments({}, DECLARATION)


values = st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=50))


@given(st.sampled_from([INT, FLOAT, BOOL, STRING]), values)
def test_convert_when_given_anything_then_the_declared_type_or_refused(
    argument: Argument, value: ArgValue
) -> None:
    wanted = {ArgType.INT: int, ArgType.FLOAT: float, ArgType.BOOL: bool, ArgType.STRING: str}
    try:
        converted = convert(argument, value)
    except ArgumentInvalid:
        return
    assert type(converted) is wanted[argument.type]
    assert not isinstance(converted, float) or isfinite(converted)
