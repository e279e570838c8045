"""Refusals as statuses: complete, and small enough for every client."""

from __future__ import annotations

import base64
import urllib.parse

import pytest
from google.rpc import error_details_pb2

from ktaskd.api.errors import DOMAIN, to_status
from ktaskd.model.errors import KtaskError, SpecInvalid

HEADERS_SAFE = 8192
"""Size that every client accepts. Source: the default of grpc.max_metadata_size."""


def test_status_when_a_field_is_wrong_then_info_and_bad_request() -> None:
    status = to_status(SpecInvalid("x: got 1, wanted 2", field="spec.x", wanted="2"))
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (status.code, status.message, len(status.details)) == (3, "x: got 1, wanted 2", 2)
    assert (info.reason, info.domain, dict(info.metadata)) == ("SPEC_INVALID", DOMAIN, {"wanted": "2"})
    (violation,) = bad.field_violations
    assert (violation.field, violation.description) == ("spec.x", "x: got 1, wanted 2")


def test_status_when_no_field_is_wrong_then_info_only() -> None:
    assert len(to_status(KtaskError("x")).details) == 1


@pytest.mark.parametrize("letter", ["x", "ä", "\n", "😀", "\x00", "\ud800"])
def test_status_when_the_caller_is_quoted_at_length_then_it_fits_in_the_headers(letter: str) -> None:
    long = letter * 100_000
    status = to_status(SpecInvalid(long, field=long, one=long, two=long))
    message = urllib.parse.quote(status.message)
    details = base64.b64encode(status.SerializeToString())
    assert len(message) + len(details) < HEADERS_SAFE - 200
    assert status.message.endswith("...")
    assert status.message.startswith(letter if letter != "\ud800" else "?")
