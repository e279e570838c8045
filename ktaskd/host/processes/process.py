"""What a process is to the kernel: who it is, what it leaves behind, when it dies."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from ktaskd.host import libc
from ktaskd.host.libc import prctl

PROC = Path("/proc")

_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
"""Source: prctl(2), linux/prctl.h"""


def set_death_signal(number: int) -> None:
    """Be sent this signal when the thread that forked this process ends.

    Cleared by any change of uid, so called after it; the caller then looks
    whether the parent is still there, since it may have died before.
    """
    prctl(_PR_SET_PDEATHSIG, number)


def set_name(name: str) -> None:
    """Be called `name` in ps and top; the kernel keeps 15 bytes of it."""
    libc.set_name(name.encode())


def read_name() -> str:
    """What it is called in ps and top; "" where that cannot be read."""
    try:
        return (PROC / "self/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def lift_data_limit() -> None:
    """Allocate as much as the hard limit allows, where the soft one was meant for the parent process."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def apply_no_new_privileges() -> None:
    """Gain nothing by exec of a set-user-ID program."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privileges() -> bool:
    """Whether it can gain nothing by exec."""
    return prctl(_PR_GET_NO_NEW_PRIVS, 0) == 1


def apply_undumpable() -> None:
    """Leave no core, and let no process of the same uid look inside.

    /proc/self then belongs to root: what is to be written there comes first.
    """
    prctl(_PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def owning_proc() -> Iterator[None]:
    """A block in which /proc/self belongs to this user, also to one without rights that is not dumpable.

    Other processes of the user could look inside meanwhile, so no more than an
    open belongs into it. Who may not is decided by `confine` in those that work
    on what clients sent.
    """
    if os.geteuid() == 0 or read_dumpable():
        yield
        return
    prctl(_PR_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        apply_undumpable()


def read_dumpable() -> bool:
    """Whether other processes of this uid may look inside."""
    return prctl(_PR_GET_DUMPABLE, 0) == 1


def apply_limits() -> None:
    """No core files; as many descriptors as the hard limit has."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def has_no_core() -> bool:
    """Whether it leaves no core file, and may not change that."""
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def apply_user(uid: int, gid: int) -> None:
    """Become `uid` for good, with `gid` as the only group.

    Args:
        gid: -1 = the present one.
    Raises:
        OSError: it may not; nothing must be run then.
    """
    if os.getresuid() == (uid, uid, uid) and gid in (-1, os.getgid()):
        return
    group = os.getgid() if gid < 0 else gid
    os.setgroups([group])
    os.setresgid(group, group, group)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (group, group, group):
        raise PermissionError(f"user: got {os.getresuid()}, wanted {uid}")


def raise_oom_score(score: int, proc: Path = PROC) -> None:
    """Be chosen earlier by the OOM killer; a score that is higher already stays."""
    if read_oom_score(proc) < score:
        with owning_proc():
            fd = os.open(proc / "self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % score)
        finally:
            os.close(fd)


def read_oom_score(proc: Path = PROC) -> int:
    """oom_score_adj, -1000 to 1000."""
    return int((proc / "self/oom_score_adj").read_text())


def resident_bytes() -> int:
    """Memory that this process has; 0 where that cannot be read. Source: proc_pid_statm(5)."""
    try:
        return int((PROC / "self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
