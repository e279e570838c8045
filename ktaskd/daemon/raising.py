"""Finds out, while the daemon runs, by which methods a helper can be raised to normal priority."""

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
"""Shortest time between two changes of an autogroup. Source: kernel/sched/autogroup.c"""


class RaisingLessons:
    """Tries the raiser's methods on the first helper that is ready, and again with each new cgroup.

    Args:
        own_cgroup_fd: descriptor of cgroup.procs of our own group, or -1; stays the caller's.
        stopping: returns whether the daemon ends.
    """

    def __init__(self, raiser: Raiser, own_cgroup_fd: int, stopping: Callable[[], bool]) -> None:
        """Nothing is known yet."""
        self._raiser = raiser
        self._own_cgroup_fd = own_cgroup_fd
        self._stopping = stopping

    def on_cgroup_fd(self, idle_fd: int) -> None:
        """Use cgroup.procs of the helpers' unit, which was just started, maybe again; owns `idle_fd`."""
        if self._raiser.leads_into(idle_fd):
            os.close(idle_fd)  # the same cgroup, from the pool host of another node
        else:
            self._raiser.take_cgroup_fds(
                idle_fd, os.dup(self._own_cgroup_fd) if self._own_cgroup_fd >= 0 else -1
            )

    def on_ready(self, worker: Worker) -> None:
        """Try on one helper by which methods it can be raised here; all later ones are alike."""
        if self._raiser.known or worker.is_lead or self._stopping():
            return
        if self._raiser.find_out(worker.pid):
            log.info("raising ways=%s", ", ".join(self._raiser.methods) or "none")
        elif worker.state in (WorkerState.IDLE, WorkerState.BUSY):
            asyncio.get_running_loop().call_later(AGAIN_S, self.on_ready, worker)
