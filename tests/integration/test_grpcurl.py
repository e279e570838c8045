"""Any gRPC client can use the daemon, for example grpcurl and buf curl."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from ktask.v1 import control_pb2

from tests.support.real_daemon import (
    Daemon,
    Stubs,
    answer,
    answers,
    buf_curl,
    connected,
    curl,
    running,
    wait_state,
    write_config,
)

JOBS, CONTROL, HEALTH = "ktask.v1.Jobs", "ktask.v1.Control", "grpc.health.v1.Health"


def crc_spec(path: Path, **fields: Any) -> dict[str, Any]:
    return {"spec": {"function": "file.crc32", "sources": {"data": {"path": str(path)}}, **fields}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(5_000_001))
    return path


def test_list_when_asked_then_all_services(daemon: Daemon) -> None:
    done = curl(daemon, "list")
    versions = {f"grpc.reflection.{version}.ServerReflection" for version in ("v1alpha", "v1")}
    names = {HEALTH, *versions, CONTROL, JOBS}
    assert (done.returncode, set(done.stdout.split())) == (0, names)


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        (JOBS, "rpc Run ( .ktask.v1.RunRequest ) returns ( .ktask.v1.RunResponse );"),
        (f"{JOBS}.Run", "rpc Run ( .ktask.v1.RunRequest ) returns ( .ktask.v1.RunResponse );"),
        (JOBS, "// Submit accepts a job and returns immediately. The job is detached"),
        (f"{JOBS}.Explain", "// Explain returns one job with its history"),
        (f"{CONTROL}.Drain", "// Drain stops or resumes the acceptance of jobs."),
        ("ktask.v1.JobSpec", "map<string, .ktask.v1.Source> sources = 3;"),
        ("ktask.v1.JobSpec", "// Set only by the daemon, and ignored in a request: the number of items"),
        ("ktask.v1.JobState", "// Accepted; it waits for a worker."),
        ("ktask.v1.JobSpec.min_chunk", "uint64 min_chunk = 6;"),
        ("ktask.v1.JobState", "JOB_STATE_DIRTY = 9;"),
        (HEALTH, "rpc Check ( .grpc.health.v1.HealthCheckRequest )"),
        ("google.rpc.ErrorInfo", "string reason = 1;"),
        ("grpc.reflection.v1.ServerReflection", "( stream .grpc.reflection.v1.ServerReflectionRequest )"),
    ],
)
def test_describe_when_asked_then_shown(daemon: Daemon, symbol: str, shown: str) -> None:
    done = curl(daemon, "describe", symbol)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


def test_describe_when_there_is_no_such_symbol_then_said(daemon: Daemon) -> None:
    assert "Symbol not found" in curl(daemon, "describe", "ktask.v1.Nothing").stderr


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
def test_reflection_when_asked_in_either_version_then_the_same(daemon: Daemon, version: str) -> None:
    request = {"file_containing_symbol": f"{JOBS}.Run"}
    done = curl(daemon, f"grpc.reflection.{version}.ServerReflection/ServerReflectionInfo", request=request)
    files = answer(done)["file_descriptor_response"]["file_descriptor_proto"]
    assert len(files) >= 3, "with all that it imports"


def test_run_when_by_path_then_the_crc_of_the_file(daemon: Daemon, file: Path) -> None:
    crc = zlib.crc32(file.read_bytes())
    for done in (
        curl(daemon, f"{JOBS}/Run", request=crc_spec(file)),
        buf_curl(daemon, f"{JOBS}/Run", crc_spec(file)),
    ):
        job = answer(done)["job"]
        assert (job["state"], job["result"]["crc32"]) == ("JOB_STATE_SUCCEEDED", crc)


def test_job_when_submitted_then_it_is_got_listed_watched_and_cancelled(daemon: Daemon, stubs: Stubs) -> None:
    spin = {"function": "selftest.spin", "arg": {"ms": 1}, "ranges": [{"length": "10000000"}]}
    asked = {"spec": {**spin, "labels": {"of": "grpcurl"}, "request_id": "grpcurl-1"}}
    job = answer(curl(daemon, f"{JOBS}/Submit", request=asked))["job"]
    assert job["detached"]
    wait_state(stubs.jobs, job["id"], "RUNNING")

    by_id, by_request = {"id": job["id"]}, {"request_id": "grpcurl-1"}
    for which in (by_id, by_request):
        assert answer(curl(daemon, f"{JOBS}/Get", request=which))["job"]["id"] == job["id"]
        assert answer(buf_curl(daemon, f"{JOBS}/Get", which))["job"]["id"] == job["id"]
    listed = answer(curl(daemon, f"{JOBS}/List", request={"labels": {"of": "grpcurl"}}))["jobs"]
    assert [one["id"] for one in listed] == [job["id"]]

    cancelled = answer(buf_curl(daemon, f"{JOBS}/Cancel", by_request))["job"]
    assert cancelled["state"] in ("JOB_STATE_DRAINING", "JOB_STATE_UNDOING", "JOB_STATE_CANCELLED")
    seen = answers(curl(daemon, f"{JOBS}/Watch", request=by_id))
    assert (seen[-1]["final"], seen[-1]["job"]["state"]) == (True, "JOB_STATE_CANCELLED")
    assert seen[-1]["job"]["error"]["reason"] == "CANCELLED"
    again = answer(curl(daemon, f"{JOBS}/Cancel", request=by_id))["job"]
    assert again["state"] == "JOB_STATE_CANCELLED"


def test_watch_when_buf_follows_then_the_last_message_is_final(daemon: Daemon, file: Path) -> None:
    job = answer(curl(daemon, f"{JOBS}/Submit", request=crc_spec(file)))["job"]
    last = answers(buf_curl(daemon, f"{JOBS}/Watch", {"id": job["id"]}))[-1]
    assert (last["final"], last["job"]["result"]["crc32"]) == (True, zlib.crc32(file.read_bytes()))


def test_error_when_the_spec_is_bad_then_info_and_field(daemon: Daemon, file: Path) -> None:
    request = crc_spec(file, ranges=[{"start": "0", "length": "1"}, {"start": "1", "length": "99000000"}])
    done = curl(daemon, f"{JOBS}/Run", request=request)
    assert done.returncode != 0
    assert "Code: OutOfRange" in done.stderr
    assert 'Message: spec.ranges[1]: ends at position 99000001, source "data" has 5000001' in done.stderr
    assert '"reason":"RANGE_BEYOND_END"' in done.stderr
    assert '"domain":"ktask"' in done.stderr
    assert '"field":"spec.ranges[1]"' in done.stderr
    told = json.loads(buf_curl(daemon, f"{JOBS}/Run", request).stderr)
    assert told["code"] == "out_of_range"
    assert {detail["type"] for detail in told["details"]} == {"google.rpc.ErrorInfo", "google.rpc.BadRequest"}


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason"),
    [
        (f"{JOBS}/Get", {}, "InvalidArgument", "SPEC_INVALID"),
        (f"{JOBS}/Get", {"id": "x", "request_id": "y"}, "InvalidArgument", "SPEC_INVALID"),
        (f"{JOBS}/Get", {"id": "0" * 32}, "NotFound", "JOB_UNKNOWN"),
        (f"{JOBS}/Watch", {"request_id": "none"}, "NotFound", "JOB_UNKNOWN"),
        (f"{JOBS}/Cancel", {"id": "none"}, "NotFound", "JOB_UNKNOWN"),
        (f"{JOBS}/List", {"page_token": "x"}, "InvalidArgument", "SPEC_INVALID"),
        (f"{JOBS}/List", {"states": [0]}, "InvalidArgument", "SPEC_INVALID"),
        (f"{JOBS}/ListFunctions", {"name": "none"}, "NotFound", "FUNCTION_UNKNOWN"),
        (f"{JOBS}/Run", {}, "InvalidArgument", "SPEC_INVALID"),
        (f"{JOBS}/Run", {"spec": {"function": "none"}}, "NotFound", "FUNCTION_UNKNOWN"),
        (f"{CONTROL}/SetMode", {}, "InvalidArgument", "SPEC_INVALID"),
    ],
)
def test_call_when_wrong_then_refused(
    daemon: Daemon, method: str, request_: object, code: str, reason: str
) -> None:
    done = curl(daemon, method, request=request_)
    assert done.returncode != 0
    assert f"Code: {code}\n" in done.stderr
    assert f'"reason":"{reason}"' in done.stderr


def test_functions_when_listed_then_a_shell_user_can_find_out(daemon: Daemon) -> None:
    functions = {
        one["name"]: one for one in answer(curl(daemon, f"{JOBS}/ListFunctions", request={}))["functions"]
    }
    assert {"mem.fill", "mem.populate", "file.crc32", "file.copy", "selftest.spin"} <= set(functions)
    assert list(functions) == sorted(functions)
    copy = functions["file.copy"]
    assert [(source["role"], source["access"]) for source in copy["sources"]] == [
        ("src", "ACCESS_READ"),
        ("dst", "ACCESS_WRITE"),
    ]
    assert (copy["undo"], copy["partial"]) == (True, "PARTIAL_POLICY_RERUN_SAFE")
    (one,) = answer(buf_curl(daemon, f"{JOBS}/ListFunctions", {"name": "selftest.spin"}))["functions"]
    assert one["arguments"][0]["default"] == 1.0


def test_status_when_asked_then_the_daemon_as_it_is(daemon: Daemon) -> None:
    status = answer(curl(daemon, f"{CONTROL}/GetStatus"))["status"]
    assert (status["pid"], status["runtime_dir"]) == (daemon.process.pid, str(daemon.place))
    assert (status["mode"], status["selftest"], status.get("draining")) == ("MODE_AUTO", True, None)
    assert {pool["name"] for pool in status["pools"]} >= {"leads"}
    hosts = {pool["host_pid"] for pool in status["pools"]}
    workers = {worker["pid"] for pool in status["pools"] for worker in pool["workers"]}
    assert hosts | workers <= {process.pid for process in daemon.tree()}
    limits = {limit["name"]: int(limit["value"]) for limit in status["limits"]}
    assert limits["jobs_queued"] == 20_000


def test_health_when_asked_then_serving(daemon: Daemon) -> None:
    for service in ("", JOBS, CONTROL):
        done = curl(daemon, f"{HEALTH}/Check", request={"service": service})
        assert answer(done) == {"status": "SERVING"}


def test_health_when_watched_then_each_change_is_sent(place: Path) -> None:
    with running(place) as daemon, connected(daemon.socket) as stubs:
        health: Any = stubs.health
        watch = iter(health.Watch(health_pb2.HealthCheckRequest(service=JOBS)))
        kinds = health_pb2.HealthCheckResponse
        assert next(watch).status == kinds.SERVING
        stubs.control.Drain(control_pb2.DrainRequest())
        assert next(watch).status == kinds.NOT_SERVING
        stubs.control.Drain(control_pb2.DrainRequest(resume=True))
        assert next(watch).status == kinds.SERVING
        watch.cancel()
        unknown = iter(health.Watch(health_pb2.HealthCheckRequest(service="no.such")))
        assert next(unknown).status == kinds.SERVICE_UNKNOWN
        unknown.cancel()
        assert "Traceback" not in daemon.log()


def test_reload_when_the_file_changed_then_said_what_holds(tmp_path: Path, place: Path, file: Path) -> None:
    config = write_config(tmp_path / "ktaskd.toml", jobs={"keep_s": 600.0})
    with running(place, "--config", config, "--idle-exit", "500") as daemon:
        assert answer(curl(daemon, f"{CONTROL}/Reload")) == {}
        write_config(config, jobs={"keep_s": 7.0, "queued": 5}, workers={"leads": 1})
        told = answer(curl(daemon, f"{CONTROL}/Reload"))
        assert sorted(told["applied"]) == ["jobs.keep_s", "jobs.queued"]
        assert told["needs_restart"] == ["workers.leads"]
        assert limits_of(daemon) == {"jobs_keep_seconds": 7, "jobs_queued": 5}

        config.write_text("[jobs]\nkeep_s = 3.0\nqueue = 1\n")
        done = curl(daemon, f"{CONTROL}/Reload")
        assert "Code: FailedPrecondition" in done.stderr
        assert '"reason":"CONFIG_INVALID"' in done.stderr
        assert "jobs.queue: unknown key" in done.stderr
        assert limits_of(daemon) == {"jobs_keep_seconds": 7, "jobs_queued": 5}
        assert (
            answer(curl(daemon, f"{JOBS}/Run", request=crc_spec(file)))["job"]["state"]
            == "JOB_STATE_SUCCEEDED"
        )


def limits_of(daemon: Daemon) -> dict[str, int]:
    status = answer(curl(daemon, f"{CONTROL}/GetStatus"))["status"]
    wanted = ("jobs_keep_seconds", "jobs_queued")
    return {limit["name"]: int(limit["value"]) for limit in status["limits"] if limit["name"] in wanted}


def test_drain_when_asked_then_new_jobs_are_refused_until_resumed(place: Path, file: Path) -> None:
    with running(place) as daemon:
        assert answer(curl(daemon, f"{CONTROL}/Drain")) == {"draining": True}
        assert answer(curl(daemon, f"{CONTROL}/GetStatus"))["status"]["draining"]
        for done in (
            curl(daemon, f"{JOBS}/Run", request=crc_spec(file)),
            curl(daemon, f"{JOBS}/Submit", request=crc_spec(file)),
        ):
            assert "Code: Unavailable" in done.stderr
            assert '"reason":"DRAINING"' in done.stderr
        for service in ("", JOBS, CONTROL):
            done = curl(daemon, f"{HEALTH}/Check", request={"service": service})
            assert answer(done) == {"status": "NOT_SERVING"}
        assert answer(curl(daemon, f"{CONTROL}/Drain", request={"resume": True})) == {}
        assert answer(curl(daemon, f"{HEALTH}/Check")) == {"status": "SERVING"}
        assert (
            answer(curl(daemon, f"{JOBS}/Run", request=crc_spec(file)))["job"]["state"]
            == "JOB_STATE_SUCCEEDED"
        )
