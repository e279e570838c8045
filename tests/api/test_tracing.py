"""W3C Trace Context in the metadata of a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.api.tracing import MEMBERS_MAX, STATE_MAX, trace_in
from ktaskd.model.trace import NO_TRACE, Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "parent", [PARENT, f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-more"]
)
def test_trace_when_valid_then_its_ids(parent: str) -> None:
    assert trace_in([("user-agent", "x"), ("traceparent", parent)]) == Trace(TRACE, SPAN)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"{PARENT}\n",
        f" {PARENT}",
        f"01-{TRACE}-{SPAN}-01x",
        f"01-{TRACE}-{SPAN}-01-{'x' * 200}",
        PARENT.encode(),
    ],
)
def test_trace_when_invalid_then_none(parent: str | bytes) -> None:
    assert trace_in([("traceparent", parent), ("tracestate", "a=1")]) is NO_TRACE


def test_trace_when_there_is_none_or_more_than_one_then_none() -> None:
    assert trace_in(None) is NO_TRACE
    assert trace_in([]) is NO_TRACE
    assert trace_in([("tracestate", "a=1")]) is NO_TRACE
    assert trace_in([("traceparent", PARENT)] * 2) is NO_TRACE


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        (["a=1", " b=2 ,, t@v=3"], "a=1,b=2,t@v=3"),
        ([], ""),
        (["A=1"], ""),
        (["a=1,b"], ""),
        (["a=1\n2"], ""),
        (["a=ü"], ""),
        ([",".join(f"k{i}=1" for i in range(MEMBERS_MAX + 1))], ""),
        (["a=" + "1" * 250, "b=" + "2" * 250, "c=" + "3" * (STATE_MAX - 500)], ""),
    ],
)
def test_state_when_given_then_whole_or_not_at_all(states: list[str], wanted: str) -> None:
    metadata = [("traceparent", PARENT), *(("tracestate", state) for state in states)]
    assert trace_in(metadata) == Trace(TRACE, SPAN, wanted)


@given(st.text(max_size=80), st.text(max_size=40))
def test_trace_when_anything_is_sent_then_only_plain_text_comes_out(parent: str, state: str) -> None:
    for first in (parent, PARENT):
        found = trace_in([("traceparent", first), ("tracestate", state)])
        assert (found.trace_id + found.span_id + found.state).isascii()
        assert (found.trace_id + found.span_id + found.state).isprintable()
