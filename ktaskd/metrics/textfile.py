"""Writes the metrics to a file for node_exporter's textfile collector, which reads *.prom of a directory."""

from __future__ import annotations

import contextlib
import os

MODE = 0o644
"""The collector runs as another user."""


def write(path: str, text: bytes) -> None:
    """Replace the file at once: a reader sees the old text or the new one, and no part of either.

    Raises:
        OSError: it cannot be written; then the old file stays, and nothing else is left.
    """
    # The collector ignores names that do not end with .prom.
    made = f"{path}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(made)  # of a daemon that was killed and had the same pid
    fd = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), MODE)
        os.rename(made, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise


def remove(path: str) -> None:
    """Remove the file, so that nobody takes old figures for present ones."""
    with contextlib.suppress(OSError):
        os.unlink(path)
