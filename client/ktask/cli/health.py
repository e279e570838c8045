"""Judges what `ktask doctor` has seen. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ktask.status import Status, Worker


class Grade(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Something works less well than it could."""
    MEND = "mend"
    """Something does not work, and should."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result.

    Args:
        about: the part that was examined, in one or two words.
        step: the command or the change that mends it; "" if there is nothing to do.
    """

    grade: Grade
    about: str
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """Facts about this process and its machine.

    Args:
        open_files: soft limit of descriptors.
        has_pressure: whether the kernel reports pressure.
        packages: optional packages of Python, and whether each can be imported.
        pending_group: name of the socket's group if this user is in it, but this login is older; else "".
    """

    open_files: int
    has_pressure: bool
    packages: Mapping[str, bool]
    pending_group: str = ""


_OPEN_FILES = 256
"""Descriptors with which lists of files still have several jobs at a time."""


def of_client(client: Client) -> Iterator[Finding]:
    """Judge what needs no daemon."""
    if client.pending_group:
        yield Finding(
            Grade.MEND,
            "group",
            f"you are a member of {client.pending_group}, but this login began before that",
            "log out and in again",
        )
    if client.open_files < _OPEN_FILES:
        yield Finding(
            Grade.NOTE,
            "open files",
            f"this shell allows {client.open_files} descriptors, so lists of files take more jobs",
            "ulimit -n 1024",
        )
    if not client.has_pressure:
        yield Finding(
            Grade.NOTE,
            "kernel",
            "pressure is not reported and is derived instead, which is less exact",
            'add "psi=1" to the command line of the kernel',
        )
    missing = [name for name, found in client.packages.items() if not found]
    if missing:
        names = " ".join(missing)
        yield Finding(
            Grade.NOTE, "packages", f"this Python lacks {', '.join(missing)}", f"pip install {names}"
        )


def of_daemon(
    status: Status, version: str, unavailable: Mapping[str, str], *, is_own: bool = False
) -> Iterator[Finding]:
    """Judge a daemon that answers.

    Args:
        version: that of the client library.
        unavailable: functions that cannot run there, with the reason.
        is_own: whether an ordinary user runs it, who cannot give it more.
    """
    # A user's own daemon does without much by design, as long as its helpers give way.
    lacks = Grade.NOTE if is_own else Grade.MEND
    yield from _of_version(status, version)
    yield from _of_helpers(status, lacks)
    yield from _of_mode(status)
    for text in status.missing:
        problem, _, step = text.partition("; ")
        yield Finding(lacks, "daemon", problem, step)
    for name, why in unavailable.items():
        yield Finding(Grade.NOTE, "function", f"{name} cannot run: {why}")


def _of_version(status: Status, version: str) -> Iterator[Finding]:
    if status.version == version:
        yield Finding(Grade.OK, "version", f"{version}, client and daemon")
    else:
        yield Finding(
            Grade.NOTE,
            "version",
            f"the daemon has {status.version}, this client {version}",
            "install the same version of both, and restart the daemon",
        )


def _of_helpers(status: Status, lacks: Grade) -> Iterator[Finding]:
    """Whether helpers give way to all other programs, as the daemon has read back from the kernel."""
    helpers = _workers(status, "HELPER")
    lacking = sorted({text for worker in [*helpers, *_workers(status, "LEAD")] for text in worker.missing})
    for text in lacking:
        problem, _, step = text.partition("; ")
        yield Finding(lacks, "workers", problem, step)
    bad = [worker for worker in helpers if not _gives_way(worker)]
    if bad:
        yield Finding(
            Grade.MEND,
            "helpers",
            f"{len(bad)} of {len(helpers)} do not give way to other sessions",
            "use the system's daemon, systemctl start ktaskd.socket, whose units give it a slice",
        )
    elif helpers:
        ways = sorted({worker.gives_way_by for worker in helpers})
        yield Finding(Grade.OK, "helpers", f"{len(helpers)} give way by {', '.join(ways)}")
    if helpers and not status.raising:
        yield Finding(
            Grade.NOTE, "helpers", "one that is starved cannot be raised here; its work is taken back instead"
        )


def _workers(status: Status, kind: str) -> Sequence[Worker]:
    """Workers of a class that are set up."""
    return [
        worker
        for pool in status.pools
        if pool.worker_class == kind
        for worker in pool.workers
        if worker.pid > 0 and worker.state != "STARTING"
    ]


def _gives_way(worker: Worker) -> bool:
    return worker.raised or (worker.policy == "idle" and bool(worker.gives_way_by))


def _of_mode(status: Status) -> Iterator[Finding]:
    if status.draining:
        yield Finding(Grade.MEND, "daemon", "it is draining and accepts no jobs", "restart it")
    if status.mode == "AUTO":
        return
    until = f" until {status.mode_until:%Y-%m-%d %H:%M}" if status.mode_until else ""
    yield Finding(Grade.NOTE, "mode", f"somebody has set {status.mode.lower()}{until}", "ktask mode auto")
