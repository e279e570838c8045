"""No user can see or touch anything of another: every way that was tried."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.integration.test_users import OTHER, Caller
from tests.support.real_daemon import (
    Daemon,
    Stubs,
    connected,
    handed_over,
    memory,
    refused,
    spin,
    until,
    wait_ended,
    wait_state,
)
from tests.support.users import OtherUsers

pytestmark = pytest.mark.other_uid

UNKNOWN = "0" * 32


@pytest.fixture
def other(run_as: OtherUsers, daemon: Daemon) -> Caller:
    return Caller(run_as, daemon.place)


@pytest.fixture
def secret(stubs: Stubs) -> Iterator[pb.Job]:
    """A running job of this user."""
    job = stubs.jobs.Submit(pb.SubmitRequest(spec=spin(10**6, 1, request_id=f"secret-{uuid.uuid4()}"))).job
    wait_state(stubs.jobs, job.id, "RUNNING")
    yield job
    stubs.jobs.Cancel(pb.CancelRequest(id=job.id))
    wait_ended(stubs.jobs, job.id)


def same_refusal(answers: list[Any], hidden: str, missing: str) -> None:
    """A caller cannot tell existing from missing."""
    first, second = answers
    assert first[0] == second[0] == "NOT_FOUND"
    assert first[1].replace(hidden, missing) == second[1]


@pytest.mark.parametrize("method", ["Get", "Explain", "Watch", "Cancel"])
def test_job_by_id(other: Caller, stubs: Stubs, secret: pb.Job, method: str) -> None:
    same_refusal(other.calls((method, {"id": secret.id}), (method, {"id": UNKNOWN})), secret.id, UNKNOWN)
    assert stubs.jobs.Get(pb.GetRequest(id=secret.id)).job.state == pb.JOB_STATE_RUNNING


@pytest.mark.parametrize("method", ["Get", "Explain", "Watch", "Cancel"])
def test_job_by_request_id(other: Caller, stubs: Stubs, secret: pb.Job, method: str) -> None:
    name = secret.spec.request_id
    same_refusal(other.calls((method, {"request_id": name}), (method, {"request_id": "none"})), name, "none")
    assert stubs.jobs.Get(pb.GetRequest(id=secret.id)).job.state == pb.JOB_STATE_RUNNING


def test_watch_that_would_cancel_when_cut(other: Caller, stubs: Stubs, secret: pb.Job) -> None:
    (answer,) = other.calls(("Watch", {"id": secret.id, "cancel_on_cut": True}))
    assert answer[0] == "NOT_FOUND"
    assert stubs.jobs.Get(pb.GetRequest(id=secret.id)).job.state == pb.JOB_STATE_RUNNING


def test_list(other: Caller, secret: pb.Job) -> None:
    answers = other.calls(
        ("List", {}),
        ("List", {"function": "selftest.spin"}),
        ("List", {"states": ["JOB_STATE_RUNNING"]}),
        ("List", {"page_size": 1000}),
    )
    assert all(code == "OK" and secret.id not in json.dumps(told) for code, told in answers)


def test_list_with_a_guessed_page_token(other: Caller, secret: pb.Job) -> None:
    tokens = [*map(str, range(1, 30)), "1000", str(10**18)]
    answers = other.calls(*(("List", {"page_token": token}) for token in tokens))
    assert all(code == "OK" and secret.id not in json.dumps(told) for code, told in answers)
    bad = other.calls(*(("List", {"page_token": token}) for token in ("-1", "x", "9" * 99, "\u0661")))
    assert {code for code, _ in bad} == {"INVALID_ARGUMENT"}


def test_request_id_of_another_makes_a_job_of_ones_own(other: Caller, secret: pb.Job) -> None:
    spec = {"function": "selftest.noop", "request_id": secret.spec.request_id, "ranges": [{"length": "1"}]}
    ((code, (answer,)),) = other.calls(("Run", {"spec": spec}))
    assert code == "OK", "whether another has used it is not told either"
    assert answer["job"]["id"] != secret.id
    assert answer["job"]["owner"]["uid"] == OTHER


@pytest.mark.parametrize("method", ["Run", "Submit"])
def test_handle_of_another(other: Caller, daemon: Daemon, method: str) -> None:
    with memory(4096) as fd, handed_over(daemon.handoff, fd) as (handle,):
        calls = [
            (
                method,
                {
                    "spec": {
                        "function": "mem.fill",
                        "arg": {"value": 1},
                        "sources": {"data": {"handle": name}},
                    }
                },
            )
            for name in (handle, UNKNOWN)
        ]
        same_refusal(other.calls(*calls), handle, UNKNOWN)
        assert os.pread(fd, 4096, 0) == bytes(4096)


def test_handle_dropped_by_another(other: Caller, daemon: Daemon, stubs: Stubs) -> None:
    code = (
        "from ktask.v1 import handoff\n"
        "with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:\n"
        "    sock.settimeout(30)\n"
        "    sock.connect(directory + '/handoff.sock')\n"
        "    sock.send(handoff.encode_request(handoff.Drop(1, (words[0],))))\n"
        "    tell(handoff.decode_reply(sock.recv(4096)).count)"
    )
    with memory(4096) as fd, handed_over(daemon.handoff, fd) as (handle,):
        assert other(code, handle) == other(code, UNKNOWN) == 1
        crc = pb.JobSpec(function="file.crc32", sources={"data": pb.Source(handle=handle)})
        assert stubs.jobs.Run(pb.RunRequest(spec=crc)).job.state == pb.JOB_STATE_SUCCEEDED


def test_handle_of_a_closed_connection(other: Caller, daemon: Daemon, stubs: Stubs) -> None:
    def handles() -> int:
        status = stubs.control.GetStatus(control_pb2.GetStatusRequest()).status
        return {counter.name: counter.value for counter in status.counters}["handles"]

    with memory(4096) as fd:
        with handed_over(daemon.handoff, fd) as (handle,):
            pass
        until(lambda: not handles(), "the handle is gone")
        calls = [
            ("Run", {"spec": {"function": "file.crc32", "sources": {"data": {"handle": name}}}})
            for name in (handle, UNKNOWN)
        ]
        same_refusal(other.calls(*calls), handle, UNKNOWN)


def test_job_ids_in_the_status(other: Caller, secret: pb.Job) -> None:
    told = other(
        "for one in control.WatchStatus(control_pb2.WatchStatusRequest(), timeout=30): break\n"
        "tell([call('GetStatus', {}), str(one)])"
    )
    assert secret.id not in json.dumps(told)
    assert "selftest.spin" not in json.dumps(told)


PROCESSES = """
import ctypes, errno, os, signal
libc = ctypes.CDLL(None, use_errno=True)

def tried(what, *args):
    try:
        return str(what(*args))
    except OSError as error:
        return errno.errorcode[error.errno]

def attach(pid):
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")

def pidfd(pid):
    fd = os.pidfd_open(pid)
    try:
        if libc.syscall(438, fd, 0, 0) < 0:  # pidfd_getfd
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    finally:
        os.close(fd)

def vm_read(pid):
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    if libc.process_vm_readv(pid, vector, 1, vector, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")

ways = {
    "fd": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "map_files": lambda pid: os.listdir(f"/proc/{pid}/map_files"),
    "mem": lambda pid: open(f"/proc/{pid}/mem", "rb").close(),
    "environ": lambda pid: open(f"/proc/{pid}/environ", "rb").read(),
    "maps": lambda pid: open(f"/proc/{pid}/maps", "rb").read(),
    "cwd": lambda pid: os.readlink(f"/proc/{pid}/cwd"),
    "ptrace": attach,
    "pidfd_getfd": pidfd,
    "process_vm_readv": vm_read,
    "SIGKILL": lambda pid: os.kill(pid, signal.SIGKILL),
    "SIGSTOP": lambda pid: os.kill(pid, signal.SIGSTOP),
    "oom": lambda pid: open(f"/proc/{pid}/oom_score_adj", "w").close(),
    "nice": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
    "affinity": lambda pid: os.sched_setaffinity(pid, {0}),
}
tell({way: sorted({tried(do, int(pid)) for pid in words}) for way, do in ways.items()})
"""


@pytest.fixture
def processes(daemon: Daemon, secret: pb.Job) -> Iterator[list[str]]:
    """Return the pids of the daemon, its pool hosts, workers and keepers."""
    with memory(4096) as fd, handed_over(daemon.handoff, fd):
        yield [str(process.pid) for process in daemon.tree()]


def test_processes_of_the_daemon(other: Caller, stubs: Stubs, daemon: Daemon, processes: list[str]) -> None:
    """Descriptors, memory, environment, ptrace, signals, priority: of each process, by each means."""
    assert len(processes) >= 4, "daemon, pool host, worker, keeper"
    before = {process.pid for process in daemon.tree()}
    told = other(PROCESSES, *processes)
    for way, answers in told.items():
        assert set(answers) <= {"EACCES", "EPERM", "ENOENT", "ESRCH"}, (way, answers)
        assert {"EACCES", "EPERM"} & set(answers), "a process that ended by itself tells nothing"
    assert len(before & {process.pid for process in daemon.tree()}) >= 4, "none of them was ended"


def test_private_socket_and_abstract_names(other: Caller, daemon: Daemon, stubs: Stubs) -> None:
    """Everybody can read a relay's name, but neither dialling nor binding it gives access."""
    stubs.jobs.List(pb.ListRequest())
    told = other(
        "import errno\n"
        "def attempt(act, address):\n"
        "    with socket.socket(socket.AF_UNIX) as sock:\n"
        "        try:\n"
        "            getattr(sock, act)(address)\n"
        "        except OSError as error:\n"
        "            return errno.errorcode[error.errno]\n"
        "        return 'done'\n"
        "names = [line.split()[-1] for line in open('/proc/net/unix') if ' @' in line]\n"
        "names = [name[1:] for name in names if len(name) == 33]\n"
        "acts = ('connect', 'bind')\n"
        "answers = {act + ' ' + attempt(act, chr(0) + name) for name in names for act in acts}\n"
        "inner = attempt('connect', directory + '/inner/grpc.sock')\n"
        "try:\n"
        "    listed = os.listdir(directory + '/inner')\n"
        "except OSError as error:\n"
        "    listed = errno.errorcode[error.errno]\n"
        "tell([len(names), sorted(answers), inner, listed])"
    )
    count, answers, inner, listed = told
    assert count >= 1
    assert answers == ["bind EADDRINUSE", "connect ECONNREFUSED"]
    assert (inner, listed) == ("EACCES", "EACCES")


def test_name_of_a_relay_bound_by_another_to_dial_the_private_socket(other: Caller, daemon: Daemon) -> None:
    """A caller with a name of its own still cannot reach the private socket."""
    told = other(
        "with socket.socket(socket.AF_UNIX) as sock:\n"
        "    sock.bind(chr(0) + 'a' * 32)\n"
        "    tell(sock.connect_ex(directory + '/inner/grpc.sock'))"
    )
    assert told == 13


def test_private_socket_dialled_by_an_admin_without_the_relay(daemon: Daemon) -> None:
    """A caller that reaches the private socket has no identity, whatever name it has bound."""
    with connected(daemon.inner) as inner:
        refusal = refused(inner.jobs.List, pb.ListRequest())
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "IDENTITY_MISSING")


def test_runtime_directory(other: Caller, daemon: Daemon) -> None:
    """Others can neither remove nor replace the sockets and the lock file, nor take the lock."""
    told = other(
        "import errno, fcntl\n"
        "def tried(act, *args):\n"
        "    try:\n"
        "        return str(act(*args))\n"
        "    except OSError as error:\n"
        "        return errno.errorcode[error.errno]\n"
        "tell([tried(os.unlink, directory + '/ktaskd.sock'),\n"
        "      tried(os.rename, directory + '/handoff.sock', directory + '/x'),\n"
        "      tried(os.mkdir, directory + '/x'),\n"
        "      tried(open, directory + '/ktaskd.lock', 'w')])"
    )
    assert set(told) <= {"EACCES", "EPERM"}


@pytest.mark.parametrize(
    ("method", "request_"),
    [("Drain", {}), ("Drain", {"resume": True}), ("Reload", {}), ("SetMode", {"mode": "MODE_PAUSED"})],
)
def test_steering(other: Caller, stubs: Stubs, method: str, request_: dict[str, Any]) -> None:
    ((code, text),) = other.calls((method, request_))
    assert code == "PERMISSION_DENIED"
    assert f"uid {OTHER} may not" in text
    assert not stubs.control.GetStatus(control_pb2.GetStatusRequest()).status.draining


def test_path_of_the_daemon(other: Caller) -> None:
    calls = [
        ("Run", {"spec": {"function": "file.crc32", "sources": {"data": {"path": path}}}})
        for path in ("/etc/shadow", "/nonexistent")
    ]
    hidden, missing = other.calls(*calls)
    assert hidden == missing
    assert hidden[0] == "PERMISSION_DENIED"


def test_descriptor_sent_on_the_wrong_socket(other: Caller, daemon: Daemon) -> None:
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    with socket.socket(socket.AF_UNIX) as sock, memory(4096) as fd:
        sock.connect(str(daemon.socket))
        refused = False
        try:
            socket.send_fds(sock, [b"PRI"], [fd] * 16)
        except OSError:
            refused = True
        grown = len(os.listdir(f"/proc/{daemon.process.pid}/fd")) - before
        assert refused or grown < 16


def test_command_and_names_of_another(other: Caller, daemon: Daemon, stubs: Stubs) -> None:
    word = f"name-{uuid.uuid4().hex}"
    with memory(4096) as fd, handed_over(daemon.handoff, fd) as (handle,):
        spec = pb.JobSpec(function="file.crc32", request_id=word, labels={"of": word})
        spec.sources["data"].CopyFrom(pb.Source(handle=handle, name=word))
        job = stubs.jobs.Run(pb.RunRequest(spec=spec)).job
        # Owner and admin is the same uid here: both see them.
        until(lambda: bool(stubs.jobs.Get(pb.GetRequest(id=job.id)).job.command), "the command line is read")
        job = stubs.jobs.Get(pb.GetRequest(id=job.id)).job
        assert job.spec.sources["data"].name == word
        answers = other.calls(
            *((method, {"id": job.id}) for method in ("Get", "Explain", "Watch", "Cancel")),
            ("List", {"page_size": 1000}),
            ("List", {"labels": {"of": word}}),
            ("GetStatus", {}),
            ("Submit", {"spec": {"function": "file.crc32", "sources": {"data": {"handle": handle}}}}),
        )
        hidden = (word, job.command)
        assert not any(one in json.dumps(answer) for answer in answers for one in hidden)
        mine = other.calls(("Run", {"spec": {"function": "selftest.noop", "ranges": [{"length": "1"}]}}))[0]
        assert mine[0] == "OK"
        # Nor does a job of its own show the command of the program that started the test.
        assert mine[1][0]["job"].get("command", "") != job.command
