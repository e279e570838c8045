"""Several users of one daemon: their rights, and the jobs that each of them sees.

Guards: I8
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.real_daemon import (
    Daemon,
    Stubs,
    connected,
    handed_over,
    memory,
    refused,
    running,
    spec,
    spin,
    wait_ended,
    wait_state,
    write_config,
)
from tests.support.users import OtherUsers

pytestmark = pytest.mark.other_uid

OTHER = 54321
"""A uid that has no name, no group and no right."""

READY = ("WORKER_STATE_IDLE", "WORKER_STATE_BUSY")

PRELUDE = """
import json, os, socket, sys
import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from ktask.v1 import control_pb2, control_pb2_grpc, jobs_pb2, jobs_pb2_grpc

directory, *words = sys.argv[1:]
channel = grpc.insecure_channel(f"unix:{directory}/ktaskd.sock", [("grpc.default_authority", "localhost")])
jobs = jobs_pb2_grpc.JobsStub(channel)
control = control_pb2_grpc.ControlStub(channel)

def call(method, request):
    "The answer to a call: its messages, or its status and text."
    service, module = (control, control_pb2) if hasattr(control, method) else (jobs, jobs_pb2)
    message = ParseDict(request, getattr(module, method + "Request")())
    try:
        response = getattr(service, method)(message, timeout=30)
        messages = [response] if hasattr(response, "DESCRIPTOR") else list(response)
        return ["OK", [MessageToDict(one, preserving_proto_field_name=True) for one in messages]]
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

def tell(value):
    print(json.dumps(value))
"""


class Caller:
    """Runs Python as another user against a daemon."""

    def __init__(self, run_as: OtherUsers, place: Path) -> None:
        self._run_as = run_as
        self._place = place

    def __call__(self, code: str, *words: str) -> Any:
        command = [str(self._run_as.interpreter), "-c", PRELUDE + code, str(self._place), *words]
        done = self._run_as(OTHER, command)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def calls(self, *calls: tuple[str, object]) -> list[Any]:
        """The answer to each call."""
        return list(self("tell([call(*one) for one in json.loads(words[0])])", json.dumps(calls)))


@pytest.fixture
def other(run_as: OtherUsers, daemon: Daemon) -> Caller:
    return Caller(run_as, daemon.place)


@pytest.fixture
def job_of_root(stubs: Stubs) -> Iterator[pb.Job]:
    """A running job of this user, with a request_id and a waiter."""
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(1000000, 1, request_id=f"of-root-{uuid.uuid4()}"))).job
    wait_state(stubs.jobs, job.id, "RUNNING")
    yield job
    stubs.jobs.Cancel(pb.CancelRequest(id=job.id))
    wait_ended(stubs.jobs, job.id)


def test_path_when_another_user_names_one_then_told_to_hand_it_over(other: Caller) -> None:
    path = {"function": "file.crc32", "sources": {"data": {"path": "/etc/hostname"}}}
    for code, text in other.calls(("Run", {"spec": path}), ("Submit", {"spec": path})):
        assert code == "PERMISSION_DENIED"
        assert f'spec.sources["data"]: paths are for admins only, got uid {OTHER}' in text
        assert "handoff socket" in text


def test_jobs_when_they_are_of_root_then_another_user_cannot_tell_that_they_exist(
    other: Caller, job_of_root: pb.Job
) -> None:
    unknown = "0" * 32
    listed, *answers = other.calls(
        ("List", {}),
        *(
            (method, {"id": job_id})
            for method in ("Get", "Watch", "Cancel")
            for job_id in (job_of_root.id, unknown)
        ),
        *(
            (method, {"request_id": name})
            for method in ("Get", "Cancel")
            for name in (job_of_root.spec.request_id, "of-none")
        ),
    )
    assert listed == ["OK", [{}]]
    for hidden, missing in zip(answers[::2], answers[1::2], strict=True):
        assert hidden[0] == missing[0] == "NOT_FOUND"
        same = hidden[1].replace(job_of_root.id, unknown).replace(job_of_root.spec.request_id, "of-none")
        assert same == missing[1]


def test_status_when_another_user_asks_then_without_the_jobs_of_root(
    other: Caller, stubs: Stubs, job_of_root: pb.Job
) -> None:
    def shown(status: Any) -> set[str]:
        return {worker.get("job_id", "") for pool in status["pools"] for worker in pool.get("workers", ())}

    ((code, (answer,)), (watched,)) = other(
        "for one in control.WatchStatus(control_pb2.WatchStatusRequest(), timeout=30): break\n"
        "tell([call('GetStatus', {}), [MessageToDict(one, preserving_proto_field_name=True)]])"
    )
    assert (code, shown(answer["status"]), shown(watched["status"])) == ("OK", {""}, {""})
    own = stubs.control.GetStatus(control_pb2.GetStatusRequest()).status
    assert job_of_root.id in {worker.job_id for pool in own.pools for worker in pool.workers}


def test_control_when_another_user_steers_then_denied(other: Caller, stubs: Stubs) -> None:
    answers = other.calls(
        ("Drain", {}), ("Drain", {"resume": True}), ("Reload", {}), ("SetMode", {"mode": "MODE_PAUSED"})
    )
    assert {code for code, _ in answers} == {"PERMISSION_DENIED"}
    assert answers[0][1] == f"uid {OTHER} may not drain the daemon: only uid 0 and the daemon's own uid may"
    assert not stubs.control.GetStatus(control_pb2.GetStatusRequest()).status.draining


def test_handle_when_it_is_of_root_then_another_user_cannot_tell_that_it_exists(
    other: Caller, daemon: Daemon
) -> None:
    with memory(4096) as fd, handed_over(daemon.handoff, fd) as (handle,):
        hidden, missing = other.calls(
            *(
                ("Run", {"spec": {"function": "file.crc32", "sources": {"data": {"handle": name}}}})
                for name in (handle, "0" * 32)
            )
        )
    assert hidden[0] == missing[0] == "NOT_FOUND"
    assert hidden[1].replace(handle, "0" * 32) == missing[1]


def test_job_when_another_user_hands_memory_over_then_it_runs(other: Caller) -> None:
    told = other(
        "import ktask\n"
        "with ktask.connect(directory) as client, ktask.memory(3_000_001) as m:\n"
        "    client.run('mem.fill', arg={'value': 7}, data=m)\n"
        "    crc = client.run('file.crc32', data=m)\n"
        "    own = [job.id for job in client.jobs()]\n"
        "    tell([m[:] == bytes([7]) * 3_000_001, crc.result['crc32'], crc.owner.uid, crc.id in own])"
    )
    assert told == [True, zlib.crc32(bytes([7]) * 3_000_001), OTHER, True]


def test_command_when_another_user_names_a_file_then_opened_as_that_user(
    run_as: OtherUsers, daemon: Daemon, tmp_path: Path
) -> None:
    own = run_as.home(OTHER) / "own"
    own.write_bytes(b"x" * 5000)
    os.chown(own, OTHER, OTHER)
    command: list[Any] = [run_as.program("ktask"), "--socket", daemon.place, "--json", "run", "file.crc32"]
    done = run_as(OTHER, [*command, f"data={own}"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["crc32"] == zlib.crc32(b"x" * 5000)

    secret = tmp_path / "secret"
    secret.write_text("x")
    done = run_as(OTHER, [*command, f"data={secret}"])
    assert done.returncode != 0
    assert "ermission denied" in done.stderr


def test_request_id_when_two_users_have_the_same_then_two_jobs(other: Caller, stubs: Stubs) -> None:
    wanted: dict[str, Any] = {"function": "selftest.noop", "ranges": [{"length": "3"}], "request_id": "same"}
    first = stubs.jobs.Run(pb.RunRequest(spec=spec(**wanted))).job
    ((code, (answer,)), (_, (got,))) = other.calls(("Run", {"spec": wanted}), ("Get", {"request_id": "same"}))
    assert (code, answer["job"]["owner"]["uid"]) == ("OK", OTHER)
    assert got["job"]["id"] == answer["job"]["id"] != first.id


def test_job_when_of_another_user_then_root_sees_and_cancels_it(other: Caller, stubs: Stubs) -> None:
    wanted = {"function": "selftest.spin", "arg": {"ms": 1}, "ranges": [{"length": "1000000"}]}
    ((_, (answer,)),) = other.calls(("Submit", {"spec": wanted}))
    job_id = answer["job"]["id"]
    assert job_id in {job.id for job in stubs.jobs.List(pb.ListRequest()).jobs}
    stubs.jobs.Cancel(pb.CancelRequest(id=job_id))
    assert wait_ended(stubs.jobs, job_id).state == pb.JOB_STATE_CANCELLED


CONNECT = """
import socket, sys
for name, kind in (("ktaskd.sock", socket.SOCK_STREAM), ("handoff.sock", socket.SOCK_SEQPACKET)):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        print(sock.connect_ex(f"{sys.argv[1]}/{name}"))
"""


def connect_as(run_as: OtherUsers, uid: int, place: Path, **options: Any) -> str:
    """The errnos of connecting to both sockets."""
    done = run_as(uid, [str(run_as.interpreter), "-I", "-c", CONNECT, str(place)], **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_sockets_when_0600_then_another_user_cannot_connect(
    run_as: OtherUsers, place: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c", sockets={"mode": "0600"})
    with running(place, "--config", config):
        assert connect_as(run_as, OTHER, place) == "13\n13\n"


def test_sockets_when_of_a_group_then_its_members_can_connect(
    run_as: OtherUsers, place: Path, tmp_path: Path
) -> None:
    # Every Debian has the group nogroup, whose number is also nobody's uid.
    config = write_config(tmp_path / "c", sockets={"group": "nogroup"}, workers={"user": "nobody"})
    with running(place, "--config", config) as daemon:
        for path in (daemon.socket, daemon.handoff):
            status = path.stat()
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o660, 0, 65534)
        assert connect_as(run_as, OTHER, place) == "13\n13\n"
        assert connect_as(run_as, OTHER, place, extra_groups=[65534]) == "0\n0\n"


def test_workers_when_root_has_no_user_for_them_then_others_may_only_look(
    run_as: OtherUsers, place: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c", sockets={"mode": "0666"}, workers={"user": "no-such-user"})
    with running(place, "--config", config) as daemon, connected(daemon.socket) as stubs:
        noop: dict[str, Any] = {"function": "selftest.noop", "ranges": [{"length": "3"}]}
        caller = Caller(run_as, place)
        listed, functions, status, run, submit = caller.calls(
            ("List", {}),
            ("ListFunctions", {}),
            ("GetStatus", {}),
            ("Run", {"spec": noop}),
            ("Submit", {"spec": noop}),
        )
        assert listed == ["OK", [{}]]
        assert functions[0] == "OK"
        assert any('no user "no-such-user"' in text for text in status[1][0]["status"]["missing"])
        for code, text in (run, submit):
            assert code == "PERMISSION_DENIED"
            assert f"uid {OTHER} may not run jobs: " in text
            assert 'no user "no-such-user" for its workers' in text
        assert stubs.jobs.Run(pb.RunRequest(spec=spec(**noop))).job.state == pb.JOB_STATE_SUCCEEDED


def test_daemon_when_of_an_unprivileged_user_then_it_serves_that_user(run_as: OtherUsers) -> None:
    place = run_as.home(OTHER) / "run"
    data = run_as.home(OTHER) / "data"
    data.write_bytes(b"y" * 4097)
    data.chmod(0o600)
    os.chown(data, OTHER, OTHER)

    def start(command: Any, **options: Any) -> Any:
        return run_as.start(OTHER, command, **options)

    with running(place, program=run_as.program("ktaskd"), popen=start):
        crc = {"function": "file.crc32", "sources": {"data": {"path": str(data)}}}
        caller = Caller(run_as, place)
        (code, (ran,)), (_, (got,)), (drained, _), (resumed, _) = caller.calls(
            ("Run", {"spec": crc}), ("GetStatus", {}), ("Drain", {}), ("Drain", {"resume": True})
        )
        assert (code, drained, resumed) == ("OK", "OK", "OK")
        assert ran["job"]["result"]["crc32"] == zlib.crc32(b"y" * 4097)
        workers = [worker for pool in got["status"]["pools"] for worker in pool.get("workers", ())]
        ready = [worker for worker in workers if worker["state"] in READY]
        assert {worker["uid"] for worker in ready} == {OTHER}
        for name in ("ktaskd.sock", "handoff.sock"):
            assert (place / name).stat().st_mode & 0o7777 == 0o600
        (told,) = [
            caller(
                "import ktask\n"
                "with ktask.connect(directory) as client, ktask.memory(5000) as m:\n"
                "    client.run('mem.fill', arg={'value': 9}, data=m)\n"
                "    tell(m[:] == bytes([9]) * 5000)"
            )
        ]
        assert told is True


def test_private_socket_when_another_user_dials_it_then_it_cannot_be_reached(
    other: Caller, daemon: Daemon
) -> None:
    code = (
        "with socket.socket(socket.AF_UNIX) as sock:\n"
        "    tell(sock.connect_ex(directory + '/inner/grpc.sock'))"
    )
    assert other(code) == 13


def test_refused_when_root_names_a_path_that_is_not_there_then_not_denied(stubs: Stubs) -> None:
    crc = spec("file.crc32", sources={"data": {"path": "/nonexistent/x"}})
    refusal = refused(stubs.jobs.Run, pb.RunRequest(spec=crc))
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "PATH_NOT_FOUND")
