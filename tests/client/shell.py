"""Runs the `ktask` command as a shell does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KTASK = Path(sys.executable).parent / "ktask"
WAIT_S = 60


@dataclass(frozen=True)
class Ended:
    """The output and exit status of a command."""

    status: int
    out: str
    err: str


def environment(socket: object) -> dict[str, str]:
    return {**os.environ, "KTASKD_SOCKET": str(socket), "LC_ALL": "C"}


def ktask(socket: object, *words: Any, through: Sequence[str] = (), **more: Any) -> Ended:
    """Run a command to its end.

    Args:
        through: a command that changes something and then becomes the words that follow it. A function for
            that between fork and exec would run where gRPC is loaded, and writes errors.
    """
    done = subprocess.run(
        [*through, KTASK, *(word if isinstance(word, bytes) else str(word) for word in words)],
        env=environment(socket),
        capture_output=True,
        timeout=WAIT_S,
        **more,
    )
    return Ended(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))


@contextlib.contextmanager
def running(socket: object, *words: Any, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running command."""
    with subprocess.Popen(
        [KTASK, *map(str, words)],
        env=environment(socket),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> Ended:
    """Wait for a command's end."""
    out, err = process.communicate(timeout=WAIT_S)
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())
