"""Attributes of the calling process: name, user, limits, privileges, death signal, OOM score."""

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
_PR_SET_MDWE = 65
"""Source: prctl(2), linux/prctl.h"""

_REFUSE_EXEC_GAIN, _NO_INHERIT = 1, 2
"""Source: PR_SET_MDWE(2const)"""


def set_death_signal(number: int) -> None:
    """Receive this signal when the thread that forked this process ends.

    A change of uid clears it, so call it after that. Then check that the parent is still alive,
    since it may have died before the call.
    """
    prctl(_PR_SET_PDEATHSIG, number)


def set_name(name: str) -> None:
    """Set the name of this process in ps and top; the kernel keeps 15 bytes of it."""
    libc.set_name(name.encode())


def read_name() -> str:
    """The name of this process in ps and top; "" if it cannot be read."""
    try:
        return (PROC / "self/comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def lift_data_limit() -> None:
    """Raise the soft limit of data to the hard one; the soft one was meant for the parent process."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def apply_no_new_privileges() -> None:
    """Set no_new_privs: exec of a set-user-ID program gives no rights."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privileges() -> bool:
    """Whether no_new_privs is set."""
    return prctl(_PR_GET_NO_NEW_PRIVS, 0) == 1


def refuse_new_code() -> bool:
    """Never again make memory of this process executable that was writable; its children still can.

    Returns:
        Whether the kernel does that, as Linux does from 6.6 on.
    """
    try:
        prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN | _NO_INHERIT)
    except OSError:
        return False
    return True


def apply_undumpable() -> None:
    """Leave no core file, and let no process of the same uid look inside.

    /proc/self then belongs to root, so write there before.
    """
    prctl(_PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def owning_proc() -> Iterator[None]:
    """A block in which /proc/self belongs to our user, even if we are unprivileged and not dumpable.

    Other processes of the user could look inside meanwhile, so use it only for a single open.
    Processes that handle clients' data are kept from looking by `confine`.
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
    """Whether other processes of this uid can look inside."""
    return prctl(_PR_GET_DUMPABLE, 0) == 1


def apply_limits() -> None:
    """Leave no core files, and raise the soft limit of descriptors to the hard one."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def has_no_core() -> bool:
    """Whether this process leaves no core file and cannot change that."""
    return resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)


def apply_user(uid: int, gid: int) -> None:
    """Become `uid` for good, with `gid` as the only group.

    Args:
        gid: -1 = the current group.
    Raises:
        OSError: the change is not permitted; the caller must not go on.
    """
    if os.getresuid() == (uid, uid, uid) and gid in (-1, os.getgid()):
        return
    group = os.getgid() if gid < 0 else gid
    os.setgroups([group])
    os.setresgid(group, group, group)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (group, group, group):
        raise PermissionError(f"user: the change to uid {uid} had no effect, the uids are {os.getresuid()}")


def raise_oom_score(score: int, proc: Path = PROC) -> None:
    """Raise the OOM score of this process, unless it is higher already."""
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
    """Resident memory of this process; 0 if it cannot be read. Source: proc_pid_statm(5)."""
    try:
        return int((PROC / "self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
