"""A real daemon, and tools for talking to it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2_grpc
from ktask.v1 import control_pb2_grpc, handoff, jobs_pb2_grpc
from ktask.v1 import jobs_pb2 as pb

PATIENCE_S = 30.0
"""An event that has not happened after this long never will; no test measures it."""

STARVATION_S = 1.0
"""How long a job without progress waits for a lead; by default longer than PATIENCE_S."""

BUSY_PATIENCE_S = 100.0
"""The same on a machine whose CPUs were never idle meanwhile."""

IDLE_SHARE = 0.1
"""Seconds of idle CPUs in each second: with more than that a helper has had its turn."""

GRPCURL = Path(sys.executable).parent / "grpcurl"
BUF = Path(sys.executable).parent / "buf"
KTASKD = Path(sys.executable).parent / "ktaskd"


def until(condition: Callable[[], bool], what: str) -> None:
    """Look until it is so; fail when it never will be.

    Helpers get only what other programs leave, which is nothing on a machine without any idle time.
    """
    begin_s, idle_before_s = time.monotonic(), idle_s()
    while not condition():
        waited_s = time.monotonic() - begin_s
        if waited_s >= PATIENCE_S:
            gave_some = idle_s() - idle_before_s > IDLE_SHARE * waited_s
            enough_s = PATIENCE_S if gave_some else BUSY_PATIENCE_S
            assert waited_s < enough_s, f"never happened: {what}"
        time.sleep(0.01)


def idle_s(stat: Path = Path("/proc/stat")) -> float:
    """Seconds since the boot in which CPUs had nothing to do, of all CPUs together."""
    with stat.open() as lines:
        fields = next(lines).split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run; a zombie does not."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _below(pid: int) -> Iterator[psutil.Process]:
    """All descendants of a process. psutil would read all processes of the machine for that."""
    found: set[int] = set()
    for task in _listed(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    for child in sorted(found):
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(child)
            yield from _below(child)


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []  # it has ended


class Daemon:
    """One ktaskd process, its directory and its log."""

    def __init__(self, place: Path, process: subprocess.Popen[Any], log: Path) -> None:
        """Take over the process."""
        self.place = place
        self.process = process
        self.log_path = log

    @property
    def socket(self) -> Path:
        return self.place / "ktaskd.sock"

    @property
    def handoff(self) -> Path:
        return self.place / "handoff.sock"

    @property
    def inner(self) -> Path:
        return self.place / "inner" / "grpc.sock"

    def log(self) -> str:
        return self.log_path.read_text()

    def tree(self) -> list[psutil.Process]:
        """Every process below the daemon, itself included."""
        return [psutil.Process(self.process.pid), *_below(self.process.pid)]

    def wait_ready(self) -> Daemon:
        """Wait until the log reports that the daemon answers."""
        until(lambda: " ready dir=" in self.log() or self.process.poll() is not None, "the daemon is ready")
        assert self.process.poll() is None, self.log()
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns its exit status."""
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Ask it to end like a service manager, and check that no process of it is left."""
        tree = self.tree()
        self.signal(signal.SIGTERM)
        status = self.wait()
        assert not alive(tree), f"outlived the daemon: {alive(tree)}\n{self.log()}"
        return status

    def kill(self) -> None:
        """End it after a failed test; the processes below it end with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def starting(
    place: Path, *words: str | Path, program: Path = KTASKD, popen: Callable[..., Any] = subprocess.Popen
) -> Iterator[Daemon]:
    """A daemon that was started with its runtime directory at `place`, ready or not.

    Args:
        popen: starts the process, for example as another user.
    """
    if "--config" not in words:
        words = (*words, "--config", write_config(place.parent / f"{place.name}.toml"))
    log = place.parent / f"{place.name}.log"
    with log.open("w") as out:
        command = [program, "--runtime-dir", place, "--selftest", *words]
        process = popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    daemon = Daemon(place, process, log)
    try:
        yield daemon
    finally:
        daemon.kill()


@contextmanager
def running(place: Path, *words: str | Path, **options: Any) -> Iterator[Daemon]:
    """A daemon that answers; it is stopped at the end, and must leave nothing behind."""
    with starting(place, *words, **options) as daemon:
        daemon.wait_ready()
        yield daemon
        assert daemon.stop() == 0, daemon.log()
        left = sorted(path.name for path in place.iterdir()) if place.exists() else []
        assert not left, f"left in the runtime directory: {left}"


def write_config(path: Path, **sections: Mapping[str, object]) -> Path:
    """A configuration file; values as JSON, which TOML reads the same.

    A job that nobody waits for has only helpers, which get what other programs leave: nothing, where a
    machine is busy with other tests. So unless `workers` says otherwise such a job gets a lead soon.
    """
    lines: list[str] = []
    workers = {"starvation_s": STARVATION_S, **sections.pop("workers", {})}
    for section, values in {"workers": workers, **sections}.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


# -- gRPC ------------------------------------------------------------------------


@dataclass(frozen=True)
class Stubs:
    """One connection."""

    channel: grpc.Channel
    jobs: jobs_pb2_grpc.JobsStub
    control: control_pb2_grpc.ControlStub
    health: health_pb2_grpc.HealthStub


@contextmanager
def connected(path: Path, *also: tuple[str, int]) -> Iterator[Stubs]:
    """A connection of its own to a gRPC socket; `also` are options of the channel."""
    options = [("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1), *also]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        yield Stubs(
            channel,
            jobs_pb2_grpc.JobsStub(channel),
            control_pb2_grpc.ControlStub(channel),
            health_pb2_grpc.HealthStub(channel),
        )


@dataclass(frozen=True)
class Refusal:
    """The refusal of a call, with its details parsed."""

    code: str
    reason: str
    message: str
    field: str = ""
    domain: str = ""


def refusal_of(error: grpc.RpcError) -> Refusal:
    """The refusal in a failed call."""
    trailing: Any = error.trailing_metadata() or ()
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    field = ""
    for key, value in trailing:
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
                if detail.Unpack(bad):
                    field = bad.field_violations[0].field
    return Refusal(error.code().name, info.reason, error.details() or "", field, info.domain)


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> Refusal:
    """Make a call that must fail."""
    try:
        response = call(*args, timeout=PATIENCE_S, **options)
        answer = response if hasattr(response, "DESCRIPTOR") else list(response)
    except grpc.RpcError as error:
        return refusal_of(error)
    raise AssertionError(f"not refused: {answer}")


def spec(function: str, **fields: Any) -> pb.JobSpec:
    """A job's spec from plain values like those of JSON."""
    return json_format.ParseDict({"function": function, **fields}, pb.JobSpec())


def spin(positions: int, ms: float, **fields: Any) -> pb.JobSpec:
    """A job that burns CPU time."""
    return spec("selftest.spin", arg={"ms": ms}, ranges=[{"length": str(positions)}], **fields)


def wait_state(jobs: jobs_pb2_grpc.JobsStub, job_id: str, *states: str) -> pb.Job:
    """Follow a job until it is in one of these states, named without their prefix."""
    wanted = {pb.JobState.Value(f"JOB_STATE_{state}") for state in states}
    call = jobs.Watch(pb.WatchRequest(id=job_id), timeout=PATIENCE_S)
    try:
        for message in call:
            if message.job.state in wanted:
                return message.job
    finally:
        call.cancel()
    raise AssertionError(f"job {job_id} was never seen {states}")


def wait_ended(jobs: jobs_pb2_grpc.JobsStub, job_id: str) -> pb.Job:
    """Follow a job to its end."""
    return wait_state(jobs, job_id, "SUCCEEDED", "FAILED", "CANCELLED", "DIRTY")


def find_by_request(jobs: jobs_pb2_grpc.JobsStub, request_id: str) -> pb.Job:
    """The job of a request_id, as soon as it was accepted."""
    found: list[pb.Job] = []

    def look() -> bool:
        with contextlib.suppress(grpc.RpcError):
            found.append(jobs.Get(pb.GetRequest(request_id=request_id)).job)
        return bool(found)

    until(look, f"job {request_id} is accepted")
    return found[0]


def state_name(job: pb.Job) -> str:
    return pb.JobState.Name(job.state).removeprefix("JOB_STATE_")


# -- descriptors -----------------------------------------------------------------


def works(daemon: Daemon) -> bool:
    """Whether a job succeeds, over a new connection."""
    with connected(daemon.socket) as stubs:
        job = stubs.jobs.Run(pb.RunRequest(spec=spin(1, 1)), timeout=PATIENCE_S).job
    return state_name(job) == "SUCCEEDED"


@contextmanager
def handed_over(path: Path, *fds: int) -> Iterator[list[str]]:
    """Handles of descriptors; they live as long as the block, and jobs that use them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(os.fspath(path))
        request = handoff.Hand(1, (handoff.OWN_OFFSET,) * len(fds))
        socket.send_fds(sock, [handoff.encode_request(request)], fds)
        reply = handoff.decode_reply(sock.recv(handoff.REPLY_BYTES_MAX))
        assert isinstance(reply, handoff.Handles), reply
        yield list(reply.handles)


@contextmanager
def memory(size: int) -> Iterator[int]:
    """A memfd of `size` zeros."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(fd, size)
        yield fd
    finally:
        os.close(fd)


# -- other programs ---------------------------------------------------------------


def run_program(command: Sequence[Any]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)


def curl(daemon: Daemon, *words: str, request: object = None) -> subprocess.CompletedProcess[str]:
    """Run grpcurl against a daemon."""
    sent: list[str] = [] if request is None else ["-d", json.dumps(request)]
    command: list[Any] = [GRPCURL, "-plaintext", "-unix", *sent, daemon.socket, *words]
    return run_program(command)


def buf_curl(daemon: Daemon, method: str, request: object) -> subprocess.CompletedProcess[str]:
    """Run `buf curl` against a daemon."""
    command: list[Any] = [
        *(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--unix-socket", daemon.socket),
        *("-d", json.dumps(request), f"http://localhost/{method}"),
    ]
    return run_program(command)


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON that a program printed; its exit status must be 0."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def answers(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """All JSON documents that a program printed, one after the other."""
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].lstrip()
    return found
