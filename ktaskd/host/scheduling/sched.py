"""CPU and disk priority of the calling process, and the CPUs it may use.

Every function acts on the calling process, unless it takes a thread: lowering one's own priority
needs no right, raising that of another process does.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from ktaskd.host.libc import syscall
from ktaskd.host.processes.process import owning_proc

PROC = Path("/proc")

AUTOGROUP_PATIENCE_S = 10.0
"""Enough for a hundred workers that start at the same time."""

_POLICIES = {os.SCHED_OTHER: "normal", os.SCHED_BATCH: "batch", os.SCHED_IDLE: "idle"}

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
_IOPRIO_CLASSES = {0: "none", 1: "realtime", 2: "best-effort", 3: "idle"}
"""Source: ioprio_set(2), linux/ioprio.h"""


def apply_affinity(cpus: frozenset[int]) -> None:
    """Bind to `cpus`; the kernel leaves out CPUs that the cpuset forbids."""
    os.sched_setaffinity(0, cpus)


def read_affinity() -> frozenset[int]:
    """The CPUs that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def apply_policy(policy: int) -> None:
    """Become SCHED_IDLE, SCHED_BATCH or SCHED_OTHER.

    Any process can enter SCHED_IDLE. Leaving it needs CAP_SYS_NICE or an RLIMIT_NICE that allows
    the nice value. Source: sched(7)
    """
    os.sched_setscheduler(0, policy, os.sched_param(0))


def read_policy() -> str:
    """The scheduling policy: "idle", "normal", "batch" or "other"."""
    return _POLICIES.get(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, "other")


def apply_nice(nice: int) -> None:
    """Set the nice value, -20 to 19."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)


def read_nice() -> int:
    """The nice value."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def apply_ioprio_idle() -> None:
    """Use the disk only when no other process does; BFQ and mq-deadline respect this."""
    apply_ioprio("idle")


def apply_ioprio(words: str, tid: int = 0) -> None:
    """Set the disk priority of a thread, in the words of `read_ioprio`; 0 = the caller.

    Raises:
        ValueError: `read_ioprio` never returns these words.
    """
    value = ctypes.c_int(_ioprio_value(words))
    syscall("ioprio_set", ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(tid), value)


def _ioprio_value(words: str) -> int:
    name, _, level = words.partition(":")
    number = next((number for number, known in _IOPRIO_CLASSES.items() if known == name), None)
    if number is None:
        raise ValueError(f'I/O priority "{words}": wanted one of {sorted(_IOPRIO_CLASSES.values())}')
    return (number << _IOPRIO_CLASS_SHIFT) | int(level or 0)


def read_ioprio(tid: int = 0) -> str:
    """Read the disk priority: "idle", "best-effort:N", "realtime:N" or "none"; "" if unknown.

    Args:
        tid: id of a thread; 0 = the caller.
    """
    try:
        value = syscall("ioprio_get", ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(tid))
    except OSError:
        return ""
    return parse_ioprio(value)


def parse_ioprio(value: int) -> str:
    """The words for a result of ioprio_get."""
    name = _IOPRIO_CLASSES.get(value >> _IOPRIO_CLASS_SHIFT, "other")
    if name in {"idle", "none"}:
        return name
    return f"{name}:{value & 7}"


def set_own_autogroup_nice(nice: int, proc: Path = PROC) -> None:
    """Set the weight of the caller's autogroup, and so of its whole session.

    Nice values and SCHED_IDLE count only inside one scheduling group, and each session is a
    group of its own. Call setsid first, or the weight of the session that started this process
    is changed.

    Without CAP_SYS_ADMIN the kernel takes one change in 0.1 s from the whole machine, so the
    workers of a large machine wait for each other here.

    Raises:
        FileNotFoundError: the kernel has no autogroups.
        PermissionError: the value is lower than the old one, without CAP_SYS_NICE.
        BlockingIOError: other processes were faster for AUTOGROUP_PATIENCE_S.
    Source: sched(7), kernel/sched/autogroup.c
    """
    until = time.monotonic() + AUTOGROUP_PATIENCE_S
    with owning_proc():
        fd = os.open(proc / "self" / "autogroup", os.O_WRONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                # A file object would return None for EAGAIN instead of raising.
                os.write(fd, b"%d" % nice)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.02)
    finally:
        os.close(fd)


def has_autogroups(proc: Path = PROC) -> bool:
    """Whether each new session is a scheduling group."""
    try:
        return (proc / "sys/kernel/sched_autogroup_enabled").read_text().strip() != "0"
    except OSError:
        return False


def read_autogroup_nice(proc: Path = PROC, pid: str = "self") -> int | None:
    """Read the nice value of a process's autogroup; None if autogroups are off.

    Also None for a process in the kernel's first session, which is that of init and of its
    children without a session of their own: this session is in the root group.
    Source: kernel/sched/autogroup.c, proc_sched_autogroup_show_task
    """
    try:
        return parse_autogroup((proc / pid / "autogroup").read_text()) if has_autogroups(proc) else None
    except OSError:
        return None


def parse_autogroup(text: str) -> int | None:
    """Parse the nice value in "/autogroup-9 nice 0"; None if there is none."""
    _, found, nice = text.strip().rpartition(" nice ")
    try:
        return int(nice) if found else None
    except ValueError:
        return None
