"""Pings the service manager's watchdog from the main loop, after a check of the daemon's own books.

Nothing else wakes up an idle daemon, and this does so only if a watchdog is configured.

Source: sd_watchdog_enabled(3), which says to ping twice in the time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from ktaskd.daemon.notify import Notifier
from ktaskd.jobs.dispatch import Dispatch

log = logging.getLogger(__name__)


def interval_s(environ: Mapping[str, str], pid: int) -> float:
    """Return the seconds between two pings; 0 = no watchdog is configured."""
    usec = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not usec.isdecimal():
        return 0.0
    return int(usec) / 2e6


class Watchdog:
    """Pings from the loop as long as the check finds no fault.

    Args:
        check: returns a fault in words; "" = none.
        status: returns the daemon's state in words.
    """

    def __init__(self, notifier: Notifier, check: Callable[[], str], status: Callable[[], str]) -> None:
        """Not started yet."""
        self._notifier = notifier
        self._check = check
        self._status = status
        self._timer: asyncio.TimerHandle | None = None
        self._interval_s = interval_s(os.environ, os.getpid())

    def start(self) -> None:
        """Ping now and regularly. Needs the running loop."""
        if self._interval_s:
            self._ping()

    def close(self) -> None:
        """Stop pinging."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ping(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._ping)
        wrong = self._check()
        if wrong:
            # Without a ping the service manager restarts the daemon, which repairs it.
            log.error('self_check_failed what="%s"', wrong)
            self._notifier.send(f"STATUS=broken: {wrong}")
            return
        self._notifier.send("WATCHDOG=1", f"STATUS={self._status()}")


def find_wrong(dispatch: Dispatch, inner_path: Path) -> str:
    """Check the daemon's books and its private socket; return a fault in words, or "".

    Args:
        inner_path: gRPC's socket. Without it nobody can call any more.
    """
    if not os.path.exists(inner_path):
        return f"{inner_path} is gone"
    helpers = Counter(worker.nid for worker in dispatch.job_of if not worker.is_lead)
    leads = len(dispatch.job_of) - helpers.total()
    if leads != dispatch.roster.busy_leads:
        return f"{leads} leads are at work, {dispatch.roster.busy_leads} were counted"
    for nid in dispatch.capacity:
        if helpers[nid] != dispatch.roster.busy_helpers(nid):
            counted = dispatch.roster.busy_helpers(nid)
            return f"{helpers[nid]} helpers of node {nid} are at work, {counted} were counted"
    return ""


def describe(dispatch: Dispatch, jobs: int) -> str:
    """Describe the daemon's state for `systemctl status`.

    Args:
        jobs: number of jobs that have not ended.
    """
    busy = sum(map(dispatch.roster.busy_helpers, dispatch.capacity))
    allowed = sum(dispatch.allowance.helpers.values())
    words = [f"{jobs} jobs", f"{busy} of {allowed} helpers and {dispatch.roster.busy_leads} leads at work"]
    words += [reason.message for reason in dispatch.allowance.reasons]
    return "; ".join(words)
