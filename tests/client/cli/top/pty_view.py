"""`ktask top` on a terminal of its own, and what a user sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.client.shell import KTASK, environment

PATIENCE_S = 20.0
"""An event that has not happened after this long never will; no test measures it."""

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[@-~]")


class View:
    """The running command, its terminal and all that it has written."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int, theirs: int) -> None:
        self.process = process
        self.ours, self.theirs = ours, theirs
        self.output = ""

    def frame(self) -> list[str]:
        """The lines of the last complete frame."""
        frames = self.output.split("\x1b[H")
        return [_SEQUENCE.sub("", line) for line in frames[-2].split("\r\n")] if len(frames) > 2 else []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Read what it writes until this is so."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"never happened: {what}\n{self.output[-4000:]}"
            self._read()

    def shows(self, words: str) -> None:
        self.until(lambda: any(words in line for line in self.frame()), f"it shows {words!r}")

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # it has no controlling terminal that would send it

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.theirs)

    def wait(self) -> int:
        """Its exit status, after reading all that it writes."""
        self.until(lambda: self.process.poll() is not None, "it ends")
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        # An end of the process shows only at the next look.
        if select.select([self.ours], [], [], 0.05)[0]:
            self.output += os.read(self.ours, 65536).decode()


@contextmanager
def showing(
    socket: object, *words: str, columns: int = 100, rows: int = 30, environ: Mapping[str, str] | None = None
) -> Iterator[View]:
    """Run `ktask top` on a terminal of this size."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        env = {**environment(socket), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environ or {})}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        # In a group of its own with a parent in the session: the kernel does not stop an orphaned group.
        with subprocess.Popen(  # type: ignore[call-overload]
            [KTASK, "top", "-i", "0.1", *words], env=env, process_group=0, **streams
        ) as process:
            try:
                yield View(process, ours, theirs)
            finally:
                process.kill()
    finally:
        os.close(ours)
        os.close(theirs)
