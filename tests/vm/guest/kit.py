"""Helpers for the checks inside the virtual machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import ktask as library
from google.protobuf.json_format import MessageToDict
from ktask.v1.control_pb2 import GetStatusRequest
from ktask.v1.control_pb2_grpc import ControlStub

CGROUPS = Path("/sys/fs/cgroup")
HELPERS = CGROUPS / "ktaskd.slice/ktaskd-helpers.service"
DAEMON = CGROUPS / "system.slice/ktaskd.service"
RUN = Path("/run/ktaskd")
SOCKET = RUN / "ktaskd.sock"
PATIENCE_S = 90.0
"""An emulated machine on a busy host is slow; a check that waits longer has failed."""

SPIN = "while True: pass"
NEEDED = frozenset({"first_client_when_it_comes_then_the_units_start"})
"""Checks whose failure makes the others meaningless."""

CHECKS: dict[str, Callable[[], str]] = {}


class Failed(Exception):
    """A check found a fault; the message names it."""


def check(function: Callable[[], str]) -> Callable[[], str]:
    """Register a function as a check, which returns a figure or raises."""
    CHECKS[function.__name__] = function
    return function


def require(condition: object, text: str) -> None:
    """Fail with this message unless the condition holds."""
    if not condition:
        raise Failed(text)


def run(*words: str, user: str = "", ok: bool = True, timeout: float = PATIENCE_S, text: str = "") -> str:
    """Run a command and return the output of both streams; fail if its exit status is not as expected.

    Args:
        user: name of the user that runs it; "" = root.
        ok: whether it has to end with 0; False = it has to fail.
        text: its standard input.
    """
    before = ["runuser", "-u", user, "--"] if user else []
    # A file and not a pipe, since a grandchild could keep a pipe open.
    with tempfile.TemporaryFile("w+") as printed:
        done = subprocess.run(
            [*before, *words],
            input=text,
            stdout=printed,
            stderr=printed,
            text=True,
            timeout=timeout,
            check=False,
        )
        printed.seek(0)
        output = printed.read()
    require((done.returncode == 0) == ok, f"{' '.join(words)}: exit status {done.returncode}: {output}")
    return output


def until(what: str, reached: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Wait until the result of a function is true, and return it."""
    end_s = time.monotonic() + patience_s
    while True:
        found = reached()
        if found:
            return found
        require(time.monotonic() < end_s, f"{what}: not within {patience_s:g} s")
        time.sleep(0.1)


def ktask(*words: str, user: str = "", ok: bool = True) -> Any:
    """Run a ktask command and return the JSON that it printed."""
    printed = run("ktask", "--json", *words, user=user, ok=ok)
    # Text for people is on the other stream, before or after the document.
    return json.JSONDecoder().raw_decode(printed[printed.index("{") :])[0] if "{" in printed else printed


class _Connection:
    """One connection for all requests, since starting a command takes seconds on an emulated machine."""

    channel: grpc.Channel | None = None

    @classmethod
    def status(cls) -> Any:
        for last in (False, True):
            if cls.channel is None:
                cls.channel = grpc.insecure_channel(f"unix:{SOCKET}")
            try:
                answer = ControlStub(cls.channel).GetStatus(GetStatusRequest(), timeout=PATIENCE_S)
            except grpc.RpcError:  # the daemon was restarted
                cls.channel.close()
                cls.channel = None
                if last:
                    raise
            else:
                return MessageToDict(answer.status)
        return None


def status() -> Any:
    """The daemon's status, in protobuf's JSON form."""
    return _Connection.status()


def workers(kind: str = "HELPER") -> list[Any]:
    """Workers of a class that have started, with the node of their pool as "nid"."""
    pools = [pool for pool in status()["pools"] if pool["workerClass"].endswith(kind)]
    return [
        {**worker, "nid": int(pool.get("nid", 0))}
        for pool in pools
        for worker in pool.get("workers", ())
        if int(worker.get("pid", 0)) and "STARTING" not in worker.get("state", "")
    ]


def prop(unit: str, name: str) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "-P", name, unit).strip()


def usage_s(group: Path) -> float:
    """CPU seconds that a cgroup and all groups below it have used."""
    lines = (group / "cpu.stat").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("usage_usec"))) / 1e6


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def unit(
    name: str, *words: str, properties: Sequence[str] = (), slice_: str = "system.slice"
) -> Iterator[Path]:
    """Run a transient service and yield its cgroup; stop it at the end."""
    options = [f"--property={text}" for text in properties]
    run("systemd-run", "--quiet", f"--unit={name}", f"--slice={slice_}", *options, *words)
    try:
        yield CGROUPS / slice_ / f"{name}.service"
    finally:
        subprocess.run(["systemctl", "stop", name], check=False, capture_output=True)
        subprocess.run(["systemctl", "reset-failed", name], check=False, capture_output=True)


def spinners(cpus: Sequence[int], each: int = 1) -> tuple[str, ...]:
    """A command that runs endless loops, `each` of them on each CPU."""
    starts = " ".join(f"taskset -c {cpu} python3 -S -c '{SPIN}' &" for cpu in cpus for _ in range(each))
    return ("sh", "-c", f"{starts} wait")


@contextlib.contextmanager
def rivals(cpus: Sequence[int], *, slice_: str = "user.slice", each: int = 1) -> Iterator[Path]:
    """Run other users' work with ordinary weight on each of these CPUs."""
    with unit("rival", *spinners(cpus, each), slice_=slice_) as group:
        until("the rivals compute", lambda: usage_s(group) > 0.3 * len(cpus))
        yield group


def client() -> Any:
    """A client of the Python library."""
    return library.connect(SOCKET)


@contextlib.contextmanager
def always() -> Iterator[None]:
    """Let all helpers run, even if the governor would pause them on this busy machine."""
    with client() as one:
        one.set_mode("always")
    try:
        yield
    finally:
        with client() as one:
            one.set_mode("auto")


@contextlib.contextmanager
def detached(ms: float, nid: int = -1, threads: int = 4) -> Iterator[str]:
    """Run an endless detached job and yield its id; cancel it at the end.

    Args:
        ms: CPU time of one unit.
        nid: node of all its units; -1 = anywhere.
    """
    ranges = [(0, 100_000_000, nid)]
    with client() as one:
        job = one.submit("selftest.spin", arg={"ms": ms}, ranges=ranges, max_threads=threads)
    try:
        yield job.id
    finally:
        with contextlib.suppress(Exception), client() as one:
            one.cancel(job.id)


def say(line: dict[str, object], port: str = "/dev/ttyS1") -> None:
    """Send one line of results to the host."""
    with open(port, "w", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _journal(begin_s: float) -> str:
    """The services' journal during a check: around the first traceback, or else its end."""
    since = f"-{time.monotonic() - begin_s + 5:.0f}s"
    words = [
        "journalctl",
        "-u",
        "ktaskd",
        "-u",
        "ktaskd-helpers",
        "--since",
        since,
        "--no-pager",
        "--no-hostname",
    ]
    text = subprocess.run(words, check=False, capture_output=True, text=True).stdout
    bug = text.find("Traceback")
    return text[-4000:] if bug < 0 else text[max(bug - 3000, 0) : bug + 3000]


def main(names: Sequence[str]) -> None:
    """Run the named checks, or all, in their order."""
    for name, function in CHECKS.items():
        if names and name not in names:
            continue
        begin_s = time.monotonic()
        print(f"check {name}", file=sys.stderr, flush=True)
        try:
            figure, detail, ok = function(), "", True
        except BaseException as error:
            figure, detail, ok = "", f"{type(error).__name__}: {error}", False
            detail += "\n" + _journal(begin_s)
        took_s = time.monotonic() - begin_s
        say({"name": name, "ok": ok, "figure": figure, "detail": detail, "seconds": took_s})
        if not ok and name in NEEDED:
            return  # the later checks depend on it
