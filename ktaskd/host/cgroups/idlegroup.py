"""Our own cgroup with cpu.idle for the helpers, and the rule where it may be made.

Weights count among siblings, so the group is made directly below the root of the hierarchy
and nowhere else. None is made if systemd manages the tree, since systemd is its only writer.
The name of a group identifies the daemon that made it, so that the next daemon can remove the
group of a killed one.

Source: Documentation/admin-guide/cgroup-v1/cgroups.rst, cgroup-v2.rst,
https://systemd.io/CGROUP_DELEGATION
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.cgroups.cpugroup import OWN_PREFIX
from ktaskd.host.root import HostRoot, read_kernel_text

_START_TIME_FIELD = 22
"""Number of the field "starttime" of /proc/PID/stat. Source: proc_pid_stat(5)."""


class IdleGroupRefused(Exception):
    """No group can be made here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class IdleGroup:
    """A group that was made, and the descriptors to move processes in and out.

    A descriptor that root opened moves processes even for a process without rights, so no
    worker may ever get one.

    Args:
        path: its directory.
        idle_fd: its cgroup.procs.
        normal_fd: cgroup.procs of the group that the daemon itself is in.
    """

    path: Path
    idle_fd: int
    normal_fd: int

    def close(self) -> None:
        """Remove the group; if it still has processes it stays for the next daemon to remove."""
        os.close(self.idle_fd)
        os.close(self.normal_fd)
        remove(self.path)


def make_idle_group(root: HostRoot | None = None) -> IdleGroup:
    """Make a group with cpu.idle for this process's helpers, and remove those that dead daemons left.

    Raises:
        IdleGroupRefused: it cannot be made, or cannot be made idle.
    """
    root = root or HostRoot()
    parent = find_parent(root)
    remove_stale(root, parent)
    path = parent / own_name(root)
    try:
        path.mkdir()
    except OSError as error:
        raise IdleGroupRefused(f"{path}: {error.strerror}; start the daemon as root") from error
    try:
        return _open(path)
    except OSError as error:
        remove(path)
        raise IdleGroupRefused(f"{error.filename or path}: {error.strerror}") from error


def _open(path: Path) -> IdleGroup:
    (path / "cpu.idle").write_text("1")
    flags = os.O_WRONLY | os.O_CLOEXEC
    idle_fd = os.open(path / "cgroup.procs", flags)
    try:
        return IdleGroup(path, idle_fd, os.open(path.parent / "cgroup.procs", flags))
    except OSError:
        os.close(idle_fd)
        raise


def find_parent(root: HostRoot) -> Path:
    """Find the group below which a group with cpu.idle really gives way.

    Raises:
        IdleGroupRefused: there is none that we may use.
    """
    legacy, path, top, below = _find_top(root)
    if below:
        # Below `path` the group would compete with the weight of `path`; outside `path` it would
        # escape the limits that were set for the daemon.
        raise IdleGroupRefused(
            f"the daemon is in the cgroup {path}, whose weight counts; start it in the root cgroup"
        )
    if not legacy and "cpu" not in (read_kernel_text(top / "cgroup.subtree_control") or "").split():
        # Enabling it here would change the weight of every group of the machine.
        raise IdleGroupRefused(f'the cpu controller is off: write "+cpu" to {top}/cgroup.subtree_control')
    return top


def find_top(root: HostRoot) -> Path:
    """Find the root of the hierarchy that controls the CPU, as far as we see it.

    Raises:
        IdleGroupRefused: there is none, or systemd manages it.
    """
    return _find_top(root)[2]


def _find_top(root: HostRoot) -> tuple[bool, str, Path, list[Path]]:
    """Whether it is v1; our path; the top; and the groups from the top down to ours."""
    if is_managed(root):
        raise IdleGroupRefused(
            "systemd manages the cgroups; "
            "let it start the pool hosts in a top-level slice with CPUWeight=idle"
        )
    found = cpu_levels(root, "self")
    if found is None:
        raise IdleGroupRefused("no cgroup file system with the cpu controller is mounted")
    legacy, path, levels = found
    top, *below = levels
    return legacy, path, top, below


def is_managed(root: HostRoot) -> bool:
    """Whether systemd manages this machine.

    Source: sd_booted(3); in a container that hides /run, the name of process 1
    """
    init = (read_kernel_text(root.proc / "1" / "comm") or "").strip()
    return os.path.isdir(root.top / "run/systemd/system") or init == "systemd"


_LOOK_S = 0.01
"""Seconds between two attempts to remove a group."""


def own_name(root: HostRoot) -> str:
    """A name that no other process ever uses: pid namespace, pid and start time."""
    return f"{OWN_PREFIX}{_pid_namespace(root)}.{os.getpid()}.{_start_time(root, str(os.getpid()))}"


def remove_stale(root: HostRoot, parent: Path) -> None:
    """Remove the empty groups of daemons that are dead."""
    with contextlib.suppress(OSError):
        for path in sorted(parent.glob(f"{OWN_PREFIX}*")):
            namespace, pid, start = [*path.name.removeprefix(OWN_PREFIX).split("."), "", "", ""][:3]
            # Processes in other pid namespaces cannot be seen from here.
            if namespace == _pid_namespace(root) and start != _start_time(root, pid):
                remove(path)


def remove(path: Path, patience_s: float = 0.0) -> None:
    """Remove a group, unless a process is in it.

    Args:
        patience_s: how long to wait until it is empty; a reaped process can count a moment longer.
    """
    until_s = time.monotonic() + patience_s
    while True:
        try:
            path.rmdir()
        except OSError as error:
            if error.errno == errno.EBUSY and time.monotonic() < until_s:
                time.sleep(_LOOK_S)
                continue
        return


def enter(procs_fd: int) -> None:
    """Move the calling process into the group of this cgroup.procs; raises OSError."""
    os.write(procs_fd, b"0")


def _pid_namespace(root: HostRoot) -> str:
    try:
        return str((root.proc / "self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def _start_time(root: HostRoot, pid: str) -> str:
    """When a process started, in clock ticks since boot; "" if there is no such process."""
    # The command in parentheses may contain blanks and parentheses itself.
    after = (read_kernel_text(root.proc / pid / "stat") or "").rpartition(")")[2].split() if pid else []
    return after[_START_TIME_FIELD - 3] if len(after) > _START_TIME_FIELD - 3 else ""
