"""Lines are printed with names, numbers and colours, and the part of a file that is text is found."""

from __future__ import annotations

import pytest
from ktask.cli.searching.printing import is_utf8, is_utf8_locale, text_before_zero


@pytest.mark.parametrize(
    ("text", "end"), [(b"a\nb\n", 4), (b"a\nb\0\nc\n", 2), (b"\0", 0), (b"", 0), (b"a\n\0\n", 2)]
)
def test_text_when_it_has_a_zero_then_the_lines_before(text: bytes, end: int) -> None:
    assert text_before_zero(text) == end


@pytest.mark.parametrize(
    ("text", "valid"), [(b"a", True), ("ä".encode(), True), (b"\xe9", False), (b"", True)]
)
def test_text_when_not_ascii_then_checked(text: bytes, valid: bool) -> None:
    assert is_utf8(text) == valid


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_CTYPE": "de_DE.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8"}, True),
        ({}, False),
    ],
)
def test_locale_when_named_by_the_first_variable_then_of_it(
    names: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert is_utf8_locale() == expected
