"""A daemon for other projects' tests: the one that KTASKD_SOCKET names, or else a new one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import ktask

_PATIENCE_S = 30.0


@contextlib.contextmanager
def a_daemon() -> Iterator[None]:
    """Inside, KTASKD_SOCKET names a daemon of this user."""
    if os.environ.get("KTASKD_SOCKET"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="ktask-suite-") as place:
        command = [sys.executable, "-m", "ktaskd", "--own-user", "--runtime-dir", f"{place}/run"]
        with open(f"{place}/log", "wb") as log:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_for(daemon, Path(place))
            os.environ["KTASKD_SOCKET"] = f"{place}/run"
            with ktask.connect() as client:
                # Those tests expect all workers of a pool to run, however busy the CPUs are.
                client.set_mode("always")
            yield
        finally:
            daemon.terminate()
            daemon.wait()


def _wait_for(daemon: subprocess.Popen[bytes], place: Path) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not (place / "run" / "ktaskd.sock").exists():
        if daemon.poll() is not None or time.monotonic() > end_s:
            sys.exit((place / "log").read_text())
        time.sleep(0.05)
