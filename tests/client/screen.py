"""A terminal, and the lines that a user sees on it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from typing import Any

from tests.client.shell import KTASK, environment

_ROWS = 1000
"""Enough rows that nothing scrolls away."""


def seen(output: str, columns: int) -> list[str]:
    """The final lines of a terminal after ktask's output: text, CR, LF and "erase line"."""
    lines, row, column, i = [""], 0, 0, 0
    while i < len(output):
        char = output[i]
        i += 1
        if output.startswith("\x1b[K", i - 1):
            lines[row] = lines[row][:column]
            i += 2
        elif char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            assert char.isprintable(), f"the terminal is steered by {char!r}"
            if column == columns:
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def on_terminal(
    socket: object, *words: Any, columns: int, environ: Mapping[str, str] | None = None, **more: Any
) -> tuple[int, str]:
    """Run `ktask` on a terminal; return its exit status and all its output.

    Args:
        columns: width of the terminal.
        more: arguments of subprocess.Popen that replace the terminal.
    """
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", _ROWS, columns, 0, 0))
        env = {**environment(socket), "TERM": "xterm", **(environ or {})}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **more}
        process = subprocess.Popen([KTASK, *map(str, words)], env=env, **streams)
    finally:
        os.close(theirs)
    parts: list[bytes] = []
    try:
        while part := os.read(ours, 65536):
            parts.append(part)
    except OSError:  # EIO: the last writer has closed the terminal
        pass
    finally:
        os.close(ours)
    return process.wait(), b"".join(parts).decode()
