"""Starting a program as systemd starts a service: in a cgroup, with a socket, as a user.

In this order, as systemd 252 does: into the cgroup, standard output opened as
root, and only then the user.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_START = """
import json, os, resource, sys
unit = json.loads(sys.argv[1])
if unit["group"]:
    for group in unit["group"]:
        with open(group + "/cgroup.procs", "w") as procs:
            procs.write("0")
    if unit["door"]:
        fd = os.open(unit["group"][0] + "/cgroup.procs", os.O_WRONLY)
        os.dup2(fd, 1)
        os.close(fd)
if unit["socket"] >= 0:
    os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
    if unit["socket"] == 3:
        os.set_inheritable(3, True)
    else:
        os.dup2(unit["socket"], 3)
        os.close(unit["socket"])
if unit["uid"] >= 0:
    try:
        resource.setrlimit(resource.RLIMIT_NICE, (20, 20))  # as LimitNICE=+0
    except ValueError:
        pass  # a root of a container that has not that right
    os.setgroups([])
    os.setresgid(unit["uid"], unit["uid"], unit["uid"])
    os.setresuid(unit["uid"], unit["uid"], unit["uid"])
os.chdir("/")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def start_unit(
    words: Sequence[str | Path],
    *,
    listener: socket.socket | None = None,
    uid: int = -1,
    groups: Sequence[Path] = (),
    door: bool = False,
    env: Mapping[str, str] | None = None,
    stderr: Any = None,
) -> subprocess.Popen[bytes]:
    """Start it; the caller waits for it.

    Args:
        listener: passed as the one socket of LISTEN_FDS.
        groups: cgroups that it is moved into.
        door: let standard output be cgroup.procs of the first of them, opened as root.
    """
    unit = {
        "group": [str(group) for group in groups],
        "door": door,
        "socket": listener.fileno() if listener else -1,
        "uid": uid,
    }
    return subprocess.Popen(
        [sys.executable, "-c", _START, json.dumps(unit), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        pass_fds=[listener.fileno()] if listener else [],
        env={**os.environ, **(env or {})},
    )


def listening(path: Path, uid: int = -1) -> socket.socket:
    """A socket as that of ktaskd-helpers.socket: 0600 and of this user."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(os.fspath(path))
    path.chmod(0o600)
    if uid >= 0:
        os.chown(path, uid, uid)
    sock.listen(64)
    return sock
