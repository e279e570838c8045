"""The answers to requests of any form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.metrics.request import HEAD_BYTES_MAX, answer, is_whole


def asked(head: bytes) -> tuple[int, bytes, bytes]:
    first, body = answer(head, lambda: b"figures", "text/x")
    assert first.startswith(b"HTTP/1.1 ")
    assert first.endswith(b"\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in first
    return int(first.split()[1]), first, body


@pytest.mark.parametrize(
    "line",
    [
        b"GET /metrics HTTP/1.1",
        b"GET /metrics HTTP/1.0",
        b"GET /metrics?name[]=x HTTP/1.1",
        b"GET http://host:9/metrics HTTP/1.1",
    ],
)
def test_answer_when_the_metrics_are_asked_for_then_these(line: bytes) -> None:
    status, head, body = asked(line + b"\r\nHost: x\r\n\r\n")
    assert (status, body) == (200, b"figures")
    assert b"Content-Type: text/x\r\nContent-Length: 7\r\n" in head


def test_answer_when_only_the_head_is_asked_for_then_no_body() -> None:
    status, head, body = asked(b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert (status, body) == (200, b"")
    assert b"Content-Length: 7\r\n" in head


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/../x HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n", 400),
        (b"", 400),
        (b"\0" * (HEAD_BYTES_MAX + 1), 431),
    ],
)
def test_answer_when_it_is_another_request_then_a_status_and_no_figures(head: bytes, status: int) -> None:
    found, _, body = asked(head)
    assert found == status
    assert b"figures" not in body


@given(st.binary(max_size=200))
def test_answer_when_the_bytes_are_arbitrary_then_always_an_answer(head: bytes) -> None:
    assert asked(head)[0] in (200, 400, 404, 405)


def test_whole_when_the_head_is_over_or_too_long_then_nothing_more_is_read() -> None:
    assert is_whole(b"GET / HTTP/1.1\r\n\r\n")
    assert not is_whole(b"x" * HEAD_BYTES_MAX)
    assert is_whole(b"x" * (HEAD_BYTES_MAX + 1))
