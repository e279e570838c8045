"""Notifies the service manager, through systemd-python or a small notify of our own."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable

from ktaskd.host.sockets import notify as own


class Notifier:
    """Sends states to $NOTIFY_SOCKET; does nothing without one.

    Args (attributes):
        missing: what is missing and how to get it, in words; "" if nothing is.
    """

    def __init__(self) -> None:
        """Find out which of the two is available."""
        self.missing = ""
        self._notify: Callable[..., object] = own.notify
        try:
            theirs = importlib.import_module("systemd.daemon").notify
            self._notify = lambda *lines: theirs("\n".join(lines))
        except ImportError:
            if "NOTIFY_SOCKET" in os.environ:
                self.missing = "systemd-python is not installed: install ktaskd[systemd] for journal fields"

    def send(self, *lines: str) -> None:
        """Send states, as in "READY=1"."""
        self._notify(*lines)

    def send_reloading(self) -> None:
        """Send RELOADING, with the time that newer service managers require.

        Source: sd_notify(3)
        """
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
