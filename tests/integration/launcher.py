"""Starts a daemon with listening sockets, as a service manager does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

LAUNCHER = """
import os, sys
n = int(sys.argv[1])
for fd in range(3, 3 + n):
    os.set_inheritable(fd, True)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), str(n)
os.execv(sys.argv[2], sys.argv[2:])
"""


def launcher(*sockets: socket.socket, interpreter: str | Path = sys.executable) -> Any:
    """Starts a command with listening sockets from descriptor 3 on, like a service manager."""

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        # A shell moves them to their numbers; its own descriptors are above them.
        moves = " ".join(f"{3 + i}<&{sock.fileno()}" for i, sock in enumerate(sockets))
        python = [os.fspath(interpreter), "-c", LAUNCHER, str(len(sockets)), *map(str, command)]
        words = ["bash", "-c", f'exec "$@" {moves}', "launcher", *python]
        fds = [sock.fileno() for sock in sockets]
        return subprocess.Popen(words, pass_fds=fds, **options)

    return popen


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(os.fspath(path))
    path.chmod(0o640)
    sock.listen(16)
    return sock
