"""One daemon for all cases, and a snapshot of everything that it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from ktask.v1 import control_pb2
from ktask.v1 import jobs_pb2 as pb

from tests.support.leaks import wait_until_none
from tests.support.real_daemon import (
    PATIENCE_S,
    Daemon,
    Stubs,
    connected,
    handed_over,
    memory,
    running,
    spec,
    until,
    write_config,
)

LEADS = 2
HELPERS = 2
"""Few leads, so that a case can keep all workers busy on any machine."""

LOOKS = 8
"""Looks that must agree before their result counts as the state at rest."""

STEADY = (
    *("connections", "handoff_connections", "handles"),
    *("jobs_unended", "workers_died", "keepers_lost", "connections_refused", "handoffs_refused"),
)
"""Counters that no case may change."""


@dataclass(frozen=True)
class Holding:
    """Everything that the daemon and its processes hold.

    Args:
        fds: number of open descriptors by pid; empty if we may not look.
        newest: id of the newest job.
        accepted: jobs accepted since the start.
    """

    counters: dict[str, int]
    fds: dict[int, int]
    newest: str
    accepted: int

    def differences(self, now: Holding) -> list[str]:
        """The values that differ now and should not; a line each."""
        lines = [
            f"counter {name}: {now.counters[name]}, before {value}"
            for name, value in self.counters.items()
            if now.counters[name] != value
        ]
        for pid, count in self.fds.items():
            # An idle keeper may have ended meanwhile.
            if now.fds.get(pid, count) != count:
                lines.append(f"process {pid}: {now.fds[pid]} descriptors, before {count}")
        return lines


def _lasts(fd: Path) -> bool:
    """Whether a descriptor is not one of those that the governor has only while work is queued."""
    try:
        name = os.readlink(fd)
    except FileNotFoundError:
        return False
    return not name.startswith("/proc/pressure/") and name != "anon_inode:[eventpoll]"


class SharedDaemon:
    """The daemon, and one connection to it."""

    def __init__(self, daemon: Daemon, stubs: Stubs) -> None:
        """Use both; the caller still owns them."""
        self.daemon = daemon
        self.stubs = stubs

    def look(self) -> Holding:
        """A snapshot of the daemon now."""
        status = self.stubs.control.GetStatus(control_pb2.GetStatusRequest(), timeout=PATIENCE_S).status
        counters = {counter.name: counter.value for counter in status.counters}
        jobs = self.stubs.jobs.List(pb.ListRequest(page_size=1), timeout=PATIENCE_S).jobs
        return Holding(
            counters={name: counters.get(name, 0) for name in STEADY},
            fds=self._fds(),
            newest=jobs[0].id if jobs else "",
            accepted=counters.get("jobs_accepted", 0),
        )

    def _fds(self) -> dict[int, int]:
        found = {}
        for process in self.daemon.tree():
            # Not dumpable, so only root may look into such a process.
            with suppress(OSError, psutil.Error):
                found[process.pid] = sum(map(_lasts, Path(f"/proc/{process.pid}/fd").iterdir()))
        return found

    def settle(self) -> None:
        """Wait until workers have dropped the sources of the warm-up; they do so without an answer."""
        seen = [self.look()]

        def at_rest() -> bool:
            seen.append(self.look())
            return len(seen) > LOOKS and all(look == seen[-1] for look in seen[-LOOKS:])

        until(at_rest, "the daemon is at rest")

    def check_same(self, before: Holding) -> Holding:
        """Wait until the daemon holds no more and no less than before; returns the snapshot.

        Descriptors are closed soon after the answer, not before it.
        """
        left = wait_until_none(lambda: before.differences(self.look()))
        assert not left, "not as before:\n" + "\n".join(left)
        return self.look()


@contextmanager
def opened(place: Path) -> Iterator[SharedDaemon]:
    """A daemon below `place` to which every user may connect."""
    config = write_config(
        place / "ktaskd.toml",
        sockets={"mode": "0666"},
        workers={"user": "nobody", "helpers_per_node": HELPERS, "leads": LEADS, "leads_per_uid": LEADS},
    )
    with (
        running(place / "run", "--config", config) as daemon,
        connected(daemon.socket) as stubs,
        memory(4096) as fd,
        # Gives our keeper something to hold; otherwise it would end in the middle of a case.
        handed_over(daemon.handoff, fd),
    ):
        warm_up(stubs)
        shared = SharedDaemon(daemon, stubs)
        shared.settle()
        yield shared


def warm_up(stubs: Stubs) -> None:
    """Start all workers, leads too, and have each load the modules of its first job."""
    wanted = spec("selftest.spin", arg={"ms": 5}, ranges=[{"length": "20"}])
    request = pb.RunRequest(spec=wanted)
    calls = [stubs.jobs.Run.future(request, timeout=PATIENCE_S) for _ in range(LEADS + 1)]
    for call in calls:
        assert call.result().job.state == pb.JOB_STATE_SUCCEEDED
