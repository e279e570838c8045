"""Descriptors of cgroup.procs that a process with more rights opened for writing.

The kernel checks the credentials of the process that *opened* the file (since Linux
5.16; before, of the process that writes). So a daemon without rights can move its helpers
into a cgroup whose cgroup.procs root opened for it. With systemd that takes one line in
the unit,

    StandardOutput=file:/sys/fs/cgroup/system.slice/%n/cgroup.procs

since systemd moves the new process into its cgroup first, then opens its standard output
as root, and changes to the unit's user only after that. At each start the descriptor
therefore belongs to the cgroup that the process itself is in.

Alternatives that were tried: a root helper in ExecStartPost=+ that sends the descriptors
needs a socket, a protocol and code that runs as root; ListenSpecial= is opened before the
cgroup exists; OpenFile= needs systemd 253; AttachProcessesToUnit needs the bus, and waits
for its answer when a starved helper has to be raised at once.

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
    """Take the cgroup.procs that this process was given as standard output, and put /dev/null there.

    Returns:
        A descriptor of our own that no program we start inherits; -1 if standard
        output is something else, which then stays as it is.
    """
    if not is_cgroup_procs(fd):
        return -1
    taken = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.dup2(null, fd)
    finally:
        os.close(null)
    return taken


def is_cgroup_procs(fd: int) -> bool:
    """Whether a descriptor is a cgroup.procs that is open for writing. Never raises."""
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
    """Whether both belong to the same cgroup; False if one of the groups was removed."""
    return os.path.sameopenfile(left, right)
