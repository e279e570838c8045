"""Facts and settings survive a round trip through JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.model.worker import Applied
from ktaskd.worker.codec import applied_from_json, applied_to_json, facts_from_json, facts_to_json

numbers = st.integers(0, 2**63 - 1)
facts = st.builds(
    SourceFacts,
    kind=st.sampled_from(SourceKind),
    access=st.sampled_from([Access.READ, Access.WRITE, Access.READ_WRITE]),
    append=st.booleans(),
    seals=st.integers(0, 63),
    size=numbers,
    page_size=st.sampled_from([4096, 2 << 20]),
    device=numbers,
    inode=numbers,
    file_system=st.text(max_size=10),
    own_offset=st.booleans(),
)
applied = st.builds(
    Applied,
    cpus=st.frozensets(st.integers(0, 8191), max_size=20),
    policy=st.sampled_from(["idle", "normal"]),
    nice=st.integers(-20, 19),
    ioprio=st.text(max_size=10),
    oom_score_adj=st.integers(-1000, 1000),
    autogroup_nice=st.none() | st.integers(-20, 19),
    cgroup=st.text(max_size=20),
    mempolicy=st.text(max_size=10),
    uid=numbers,
    gives_way_by=st.sampled_from(["", "idle slice", "idle cgroup", "autogroup"]),
    gave_up=st.lists(st.text(max_size=20), max_size=3).map(tuple),
    missing=st.lists(st.text(max_size=20), max_size=3).map(tuple),
)


@settings(deadline=None)
@given(facts)
def test_facts_when_written_and_read_then_equal(value: SourceFacts) -> None:
    assert facts_from_json(json.loads(json.dumps(facts_to_json(value)))) == value


@settings(deadline=None)
@given(applied)
def test_applied_when_written_and_read_then_equal(value: Applied) -> None:
    assert applied_from_json(json.loads(json.dumps(applied_to_json(value)))) == value


@pytest.mark.parametrize(("key", "value"), [("access", "x"), ("access", ""), ("kind", "disk"), ("size", "a")])
def test_facts_when_a_value_is_wrong_then_value_error(key: str, value: str) -> None:
    body = facts_to_json(SourceFacts(SourceKind.FILE, Access.READ, False, 0, 1, 4096, 1, 1, "ext4", True))
    with pytest.raises(ValueError):
        facts_from_json({**body, key: value})
    del body[key]
    with pytest.raises(KeyError):
        facts_from_json(body)
