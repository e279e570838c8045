"""A compact mapping equals the mapping that it was made from."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.model.compact import Compact, compact


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=20))
def test_compact_when_made_then_equal_in_all_that_can_be_asked(entries: dict[str, int | str]) -> None:
    made = compact(entries)
    assert dict(made) == entries
    assert list(made.items()) == list(entries.items())
    assert (made == entries, len(made), bool(made)) == (True, len(entries), bool(entries))
    assert {**made} == entries
    for name in ("", "nobody", *entries):
        assert (name in made, made.get(name)) == (name in entries, entries.get(name))
    with pytest.raises(KeyError):
        made["no such name"]


def test_compact_when_of_one_entry_then_smaller_than_a_dict() -> None:
    made = Compact({"name": 1})
    assert sys.getsizeof(made) + 2 * sys.getsizeof((1,)) < sys.getsizeof({"name": 1})
    assert repr(made) == "{'name': 1}"
