"""What is learnt about raising while the daemon runs: cgroups to raise with, and which methods work."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from ktaskd.host.scheduling.raising import Raiser
from ktaskd.model.worker import WorkerState
from ktaskd.pool.link import Worker

log = logging.getLogger(__name__)

AGAIN_S = 0.1
"""The kernel takes a change of an autogroup as often. Source: kernel/sched/autogroup.c"""


class RaisingLessons:
    """Has the raiser learn from the first helper that is ready, and again with each new cgroup.

    Args:
        own_cgroup_fd: cgroup.procs of our own group, if we were given it; stays the caller's.
        stopping: whether the daemon ends.
    """

    def __init__(self, raiser: Raiser, own_cgroup_fd: int, stopping: Callable[[], bool]) -> None:
        """Learn nothing yet."""
        self._raiser = raiser
        self._own_cgroup_fd = own_cgroup_fd
        self._stopping = stopping

    def on_cgroup_fd(self, idle_fd: int) -> None:
        """The helpers' unit was started, maybe again: own `idle_fd`, the cgroup.procs of its cgroup."""
        if self._raiser.leads_into(idle_fd):
            os.close(idle_fd)  # from the pool host of another node
        else:
            self._raiser.take_cgroup_fds(
                idle_fd, os.dup(self._own_cgroup_fd) if self._own_cgroup_fd >= 0 else -1
            )

    def on_ready(self, worker: Worker) -> None:
        """Try on a helper in which ways it can be raised here; every later one is the same."""
        if self._raiser.known or worker.is_lead or self._stopping():
            return
        if self._raiser.find_out(worker.pid):
            log.info("raising ways=%s", ", ".join(self._raiser.methods) or "none")
        elif worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            asyncio.get_running_loop().call_later(AGAIN_S, self.on_ready, worker)
