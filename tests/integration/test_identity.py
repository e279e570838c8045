"""Only callers that came through the public socket have an identity; others get no answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import GRPCURL, Daemon, Refusal, Stubs, connected, refused, run_program, spin

NOBODY_CALLS = Refusal(
    "UNAUTHENTICATED",
    "IDENTITY_MISSING",
    "the call did not come through the daemon's public socket",
    domain="ktask",
)


@pytest.fixture
def inside(daemon: Daemon) -> Iterator[Stubs]:
    """A connection straight to the private socket, which this uid may open."""
    with connected(daemon.inner) as stubs:
        yield stubs


@pytest.mark.parametrize("method", ["Run", "Submit", "Get", "Watch", "Cancel", "List", "ListFunctions"])
def test_jobs_when_dialled_inside_then_refused(inside: Stubs, method: str) -> None:
    assert refused(getattr(inside.jobs, method), getattr(pb, f"{method}Request")()) == NOBODY_CALLS


@pytest.mark.parametrize("method", ["GetStatus", "WatchStatus", "SetMode", "Drain", "Reload"])
def test_control_when_dialled_inside_then_refused(inside: Stubs, method: str) -> None:
    request = getattr(control_pb2, f"{method}Request")()
    assert refused(getattr(inside.control, method), request) == NOBODY_CALLS


def test_health_and_reflection_when_dialled_inside_then_refused(inside: Stubs) -> None:
    for name in ("Check", "Watch"):
        assert refused(getattr(inside.health, name), health_pb2.HealthCheckRequest()) == NOBODY_CALLS
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(inside.channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
    assert refused(reflection.ServerReflectionInfo, requests) == NOBODY_CALLS


def test_grpcurl_when_it_dials_inside_then_refused(daemon: Daemon) -> None:
    done = run_program([GRPCURL, "-plaintext", "-unix", daemon.inner, "list"])
    assert done.returncode != 0
    assert "Unauthenticated" in done.stderr


def test_call_when_refused_inside_then_nothing_was_done(inside: Stubs, stubs: Stubs) -> None:
    wanted = spin(1, 1, request_id="from-inside")
    assert refused(inside.jobs.Submit, pb.SubmitRequest(spec=wanted)) == NOBODY_CALLS
    refusal = refused(stubs.jobs.Get, pb.GetRequest(request_id="from-inside"))
    assert refusal.reason == "JOB_UNKNOWN"
