"""Structs from our own encoder equal those that protobuf makes."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.api.structs import struct_out

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=60,
)


@pytest.mark.slow
@given(st.dictionaries(texts, values, max_size=8))
def test_struct_when_made_then_as_protobuf_makes_it(value: dict[str, Any]) -> None:
    expected = struct_pb2.Struct()
    expected.update(value)
    assert struct_out(value) == expected


def test_struct_when_integers_are_too_large_for_a_double_then_they_are_strings() -> None:
    made = struct_out({"a": 2**53 + 1, "b": [-(2**60)], "c": 2**53})
    assert made is not None
    assert made["a"] == str(2**53 + 1)
    assert made.fields["b"].list_value.values[0].string_value == str(-(2**60))
    assert made["c"] == 2**53
    assert struct_out(None) is None


def test_struct_when_a_text_cannot_be_written_then_it_is_sent_all_the_same() -> None:
    made = struct_out({"\udc80": "a\udc80b"})
    assert made is not None
    assert dict(made) == {"?": "a?b"}
