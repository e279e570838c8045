"""Starts a program like a service of systemd: in a cgroup, with a socket, as a user.

The order is that of systemd 252: first the cgroup, then standard output, opened as
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
    if unit["cgroup_fd"]:
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
        pass  # root in a container may lack that right
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
    cgroup_fd: bool = False,
    env: Mapping[str, str] | None = None,
    stderr: Any = None,
) -> subprocess.Popen[bytes]:
    """Start the program; the caller waits for it.

    Args:
        listener: passed as the one socket of LISTEN_FDS.
        groups: cgroups that the program is moved into.
        cgroup_fd: open cgroup.procs of the first of them as root, as standard output.
    """
    unit = {
        "group": [str(group) for group in groups],
        "cgroup_fd": cgroup_fd,
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
    """A socket like that of ktaskd-helpers.socket: 0600 and owned by this user."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(os.fspath(path))
    path.chmod(0o600)
    if uid >= 0:
        os.chown(path, uid, uid)
    sock.listen(64)
    return sock
