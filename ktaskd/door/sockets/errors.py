"""Errors of listening."""

from __future__ import annotations

from pathlib import Path


class ListenError(Exception):
    """The daemon cannot listen where it should; the text says why."""


class DirectoryBusy(ListenError):
    """Another daemon holds the runtime directory.

    Args:
        pid: the one in the lock file; 0 if there is none.
    """

    def __init__(self, path: Path, pid: int) -> None:
        """Name the directory and its owner."""
        who = f"pid {pid}" if pid else "another process"
        super().__init__(f"runtime directory {path}: a daemon is running there already ({who})")
        self.pid = pid
