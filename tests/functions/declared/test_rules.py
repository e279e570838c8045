"""Intake refuses the same arguments as the bodies and RE2, which have the last word."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.functions.arrays.elementwise import BINARY, UNARY, Map
from ktaskd.functions.arrays.numbers import TYPES
from ktaskd.functions.arrays.reduce import Reduce
from ktaskd.functions.body import Context
from ktaskd.functions.catalogue import CATALOGUE
from ktaskd.functions.declared import archives, arrays, checksums, rules, text
from ktaskd.functions.declared.expression import ExpressionInvalid, check_expression
from ktaskd.functions.memory.pattern import Pattern
from ktaskd.intake.arguments import check_arguments
from ktaskd.model.errors import ArgumentInvalid
from ktaskd.model.function import ArgValue

PIECES = [
    *("a", "b", "z", "(", ")", "[", "]", "{", "}", "*", "+", "?", "|", "\\", "^", "$", ".", "-", ",", ":"),
    *("0", "1", "9", "P", "p", "Q", "E", "x", "U", "=", "!", "<", ">", "_", "d", "n", "(?", "(?i)", "(?P<"),
    *("[:alpha:]", "\\Q", "\\E", "{2}", "{1,3}", "{1001}", "\\p{", "(?:", "ü", "\\pN", "[^", "\\1", "(?-s)"),
]


def is_of_re2(pattern: str) -> bool:
    options = re2.Options()
    options.log_errors, options.never_nl, options.never_capture = False, True, True
    try:
        re2.compile(("(?m)" + pattern).encode(), options)
    except re2.error:
        return False
    return True


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_expression_when_re2_takes_it_then_it_is_not_refused(pattern: str) -> None:
    if is_of_re2(pattern):
        check_expression(pattern)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "missing )"),
        ("a)", "unexpected )"),
        ("[a", "missing ]: [a"),
        ("[z-a]", "invalid character class range: z-a"),
        ("*a", "missing argument to repetition operator: *"),
        ("a|+", "missing argument to repetition operator: +"),
        ("a**", "bad repetition operator"),
        ("a{2,1}", "bad repetition operator"),
        ("a{1001}", "bad repetition operator"),
        ("(?=a)", "invalid perl operator: (?=a"),
        ("(?<!a)b", "no look-around"),
        (r"(a)\1", r"invalid escape sequence: \1 (RE2 has no back references"),
        (r"\h", r"invalid escape sequence: \h"),
        (r"\x4", r"invalid escape sequence: \x4"),
        ("a\\", "trailing"),
        (r"\p{Greek", "missing }"),
    ],
)
def test_expression_when_wrong_then_said_and_re2_says_so_too(pattern: str, words: str) -> None:
    assert not is_of_re2(pattern)
    with pytest.raises(ExpressionInvalid) as caught:
        check_expression(pattern)
    assert words in str(caught.value)


OPERANDS = ["", "0", "7", "-1", "0x10", "255", "256", "1e3", "1.5", "nan", "x", str(2**63), str(2**64)]


@given(st.sampled_from(TYPES), st.sampled_from([*UNARY, *BINARY]), st.sampled_from(OPERANDS))
def test_map_when_the_body_takes_it_then_intake_does_and_the_other_way_round(
    dtype: str, ufunc: str, operand: str
) -> None:
    arg: dict[str, ArgValue] = {"dtype": dtype, "ufunc": ufunc, "operand": operand}
    # Whether numpy rounds integers to integers depends on its version: the body has the last word.
    if ufunc in ("ceil", "floor", "rint") and not dtype.startswith("float"):
        return
    assert is_taken("array.map", arg) == is_prepared(Map(), arg)


@given(
    st.sampled_from(["", "0", "0g", "00", "00 11", "00" * 8, "00" * 4096, "00" * 4097]),
    st.integers(-1, 4095),
    st.integers(4, 8),
)
def test_pattern_when_the_body_takes_it_then_intake_does_and_the_other_way_round(
    record: str, index_at: int, index_bytes: int
) -> None:
    arg: dict[str, ArgValue] = {
        "record": record,
        "index_at": index_at,
        "index_bytes": index_bytes,
        "index_first": 0,
    }
    assert is_taken("mem.pattern", arg) == is_prepared(Pattern(), arg)


@given(
    st.sampled_from(["sum", "mean", "min", "max", "histogram"]),
    st.floats(-2, 2),
    st.floats(-2, 2),
)
def test_reduce_when_the_body_takes_it_then_intake_does_and_the_other_way_round(
    op: str, low: float, high: float
) -> None:
    arg: dict[str, ArgValue] = {"dtype": "int8", "op": op, "bins": 3, "low": low, "high": high}
    assert is_taken("array.reduce", arg) == is_prepared(Reduce(), arg)


def is_taken(function: str, arg: Mapping[str, ArgValue]) -> bool:
    try:
        check_arguments(arg, CATALOGUE[function])
    except ArgumentInvalid:
        return False
    return True


def is_prepared(body: Map | Pattern | Reduce, arg: Mapping[str, ArgValue]) -> bool:
    try:
        body.prepare(Context(arg, {}, {}, (0, 0), True))
    except (OSError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("function", "arg", "field", "words"),
    [
        ("file.compress", {"format": "gzip", "level": 10}, "level", "got 10, wanted at most 9 for gzip"),
        ("file.compress", {"level": 99}, "level", "got 99, wanted at most 19"),
        ("file.compress", {"format": "xz"}, "format", 'got "xz", wanted zstd or gzip'),
        ("file.decompress", {"format": "xz"}, "format", 'got "xz", wanted auto, zstd or gzip'),
        ("file.manifest", {"algorithm": "md5"}, "algorithm", 'got "md5", wanted sha256 or blake3'),
        ("file.verify", {"algorithm": "SHA256"}, "algorithm", 'got "SHA256", wanted sha256 or blake3'),
        ("array.reduce", {"op": "median"}, "op", 'got "median", wanted sum, mean, min, max or histogram'),
        ("array.reduce", {"dtype": "int7"}, "dtype", 'got "int7", wanted int8, int16'),
        (
            "array.reduce",
            {"op": "histogram", "low": 2.0},
            "low",
            'got 2, wanted less than argument "high", 1',
        ),
        ("array.map", {"ufunc": "sin"}, "ufunc", 'got "sin", wanted absolute, add'),
        ("array.map", {"ufunc": "sqrt", "dtype": "int8"}, "ufunc", "does not work on int8"),
        ("array.map", {"ufunc": "add"}, "operand", 'got "", wanted a number of type float64'),
        ("mem.pattern", {"record": "zz"}, "record", "hex digits"),
        (
            "text.search",
            {"pattern": "(", "regex": True},
            "pattern",
            "not a regular expression of RE2: missing",
        ),
        ("text.search", {"pattern": "x", "show": "all"}, "show", 'got "all", wanted count, offsets or lines'),
        ("text.search", {"pattern": "x" * 4097}, "pattern", "got 4097 bytes, wanted at most 4096"),
        ("text.search", {"pattern": "a\nb"}, "pattern", "has a newline"),
    ],
)
def test_arguments_when_wrong_then_refused_and_named(
    function: str, arg: dict[str, ArgValue], field: str, words: str
) -> None:
    with pytest.raises(ArgumentInvalid) as caught:
        check_arguments(arg, CATALOGUE[function])
    assert caught.value.field == f"spec.arg.{field}"
    assert words in caught.value.message


def test_choices_when_declared_then_the_default_is_one_of_them() -> None:
    everything = (archives, arrays, checksums, text)
    given_choices = [
        one
        for part in everything
        for declared in part.DECLARATIONS
        for one in declared.arguments
        if one.choices
    ]
    assert len(given_choices) >= 8
    assert all(one.default is None or one.default in one.choices for one in given_choices)
    assert set(UNARY) | set(BINARY) == {*rules.UNARY, *rules.BINARY}
