"""Read the command line of a process, for display."""

from __future__ import annotations

import os
import shlex

from ktaskd.host.root import HostRoot
from ktaskd.model.limits import COMMAND_CHARS_KEPT

_READ_BYTES = 4096


def read_command(root: HostRoot, pid: int, uid: int) -> str:
    """Return the command line of a process of this user, as a shell would take it; "" = none can be read.

    The process may be another one than expected, since pids are used again, but is one of the same
    user: an owner of another uid, also of a process that its user may not examine, gives "". May take
    long: the kernel waits while the process changes its mappings.

    Args:
        pid: 0 or less = the process is in another PID namespace.
    """
    if pid <= 0:
        return ""
    try:
        # Through a descriptor of the directory, so that both are of one process.
        process = os.open(root.proc / str(pid), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return command_text(_read(process)) if os.fstat(process).st_uid == uid else ""
    except OSError:
        return ""
    finally:
        os.close(process)


def _read(process: int) -> bytes:
    fd = os.open("cmdline", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        return os.read(fd, _READ_BYTES)
    finally:
        os.close(fd)


def command_text(raw: bytes) -> str:
    """Return the words of a command line, quoted as for a shell, cut and without control characters."""
    words = raw.rstrip(b"\0").split(b"\0") if raw.strip(b"\0") else []
    text = shlex.join(word.decode(errors="replace") for word in words)
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    if len(clean) <= COMMAND_CHARS_KEPT:
        return clean
    return clean[: COMMAND_CHARS_KEPT - 1] + "\N{HORIZONTAL ELLIPSIS}"
