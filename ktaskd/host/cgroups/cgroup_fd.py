"""Doors of cgroups: descriptors of cgroup.procs that somebody with more rights opened for writing.

Who may move a process is decided by the credentials of whoever *opened* the
file (Linux 5.16; before, of whoever writes). So a daemon without rights moves
its helpers where root opened the door for it. With systemd that takes one line
in the unit,

    StandardOutput=file:/sys/fs/cgroup/system.slice/%n/cgroup.procs

since systemd moves the new process into its cgroup first, then opens its
standard output as root, and changes to the unit's user only after that. So the
door is that of the cgroup that the process itself is in, at every start anew.

Tried before: a root helper in ExecStartPost=+ that sends the descriptors needs a
socket, a protocol and root code for the same; ListenSpecial= is opened before the
cgroup exists; OpenFile= needs systemd 253; AttachProcessesToUnit of the bus needs
a bus, and an answer where a starved helper is to be raised at once.

Source: kernel/cgroup/cgroup.c, __cgroup_procs_write; systemd.exec(5);
src/core/execute.c of systemd 252, exec_child
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ktaskd.host.libc import file_system_of

CGROUP_MAGICS = frozenset({0x63677270, 0x27E0EB})
"""Of v2 and v1. Source: statfs(2), linux/magic.h"""

_STDOUT = 1


def take_stdout(fd: int = _STDOUT) -> int:
    """The door that this process was given as its standard output, which is /dev/null from now on.

    Returns:
        A descriptor of our own that no program we start inherits; -1 where
        standard output is something else, which is then left alone.
    """
    if not is_door(fd):
        return -1
    door = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, fd)
    finally:
        os.close(null)
    return door


def is_door(fd: int) -> bool:
    """Whether it is a cgroup.procs, open for writing. Never raises."""
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        name = Path(os.readlink(f"/proc/self/fd/{fd}")).name
        return (
            flags & os.O_ACCMODE != os.O_RDONLY
            and not flags & os.O_PATH
            and name == "cgroup.procs"
            and file_system_of(fd) in CGROUP_MAGICS
        )
    except OSError:
        return False


def same(left: int, right: int) -> bool:
    """Whether both lead into the same cgroup; of a removed group none is the same as another's."""
    return os.path.sameopenfile(left, right)
