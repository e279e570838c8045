"""Texts from elsewhere in a line of the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.host.logline import escape


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("tar c ü", "tar c ü"),
        ('a" b=1', r"a\" b=1"),
        ("a\\", r"a\\"),
        ("a\nb\tc\r", r"a\nb\tc\u000d"),
        ("\x1b[2J\x85\u2028\u202e\udc80", r"\u001b[2J\u0085\u2028\u202e\udc80"),
        ("12345678901", "1234567890..."),
    ],
)
def test_escape_when_a_text_could_end_its_quotes_or_its_line_then_it_cannot(text: str, wanted: str) -> None:
    assert escape(text, 10) == wanted


@given(st.text())
def test_escape_when_any_text_is_given_then_printable_and_no_quote_is_bare(text: str) -> None:
    found = escape(text, 100)
    assert found.isprintable()
    rest = found.replace("\\\\", "").replace('\\"', "")
    assert '"' not in rest
    assert not rest.endswith("\\")
