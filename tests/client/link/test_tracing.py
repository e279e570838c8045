"""The client sends the trace that its program is in, and never fails because of it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ktask.link.tracing import current_metadata

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def provide(monkeypatch: pytest.MonkeyPatch, **context: Any) -> None:
    """Put a module in place of opentelemetry.trace, whose current span has this context."""
    fields = {"is_valid": True, "trace_id": TRACE, "span_id": SPAN, "trace_flags": 1, **context}
    state = SimpleNamespace(to_header=lambda: fields.get("state", ""))
    span = SimpleNamespace(get_span_context=lambda: SimpleNamespace(trace_state=state, **fields))
    module = ModuleType("opentelemetry.trace")
    module.get_current_span = lambda: span  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)


def test_metadata_when_there_is_no_trace_then_none() -> None:
    assert current_metadata({}) is None
    assert "opentelemetry" not in sys.modules


def test_metadata_when_there_is_a_span_then_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, state="vendor=1")
    assert current_metadata({"TRACEPARENT": PARENT.replace("4", "5")}) == (
        ("traceparent", PARENT),
        ("tracestate", "vendor=1"),
    )


def test_metadata_when_the_span_is_none_then_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    provide(monkeypatch, is_valid=False)
    assert current_metadata({}) is None
    assert current_metadata({"TRACEPARENT": PARENT}) == (("traceparent", PARENT),)


@pytest.mark.parametrize("context", [{"trace_id": "x"}, {"trace_flags": None}, {"trace_id": 1 << 200}])
def test_metadata_when_the_module_is_another_one_then_none(
    monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]
) -> None:
    provide(monkeypatch, **context)
    assert current_metadata({}) is None


@pytest.mark.parametrize("parent", ["", "x", PARENT + "\n", PARENT.upper(), PARENT + "-x", "ü"])
def test_metadata_when_the_environment_is_wrong_then_none(parent: str) -> None:
    assert current_metadata({"TRACEPARENT": parent, "TRACESTATE": "a=1"}) is None


@pytest.mark.parametrize("state", ["", "a=\n", "a=ü", "a" * 513])
def test_metadata_when_the_state_cannot_be_sent_then_the_trace_without_it(state: str) -> None:
    found = current_metadata({"TRACEPARENT": PARENT, "TRACESTATE": state})
    assert found == (("traceparent", PARENT),)
