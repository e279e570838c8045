"""CPU and disk priority of the calling process, and which CPUs it may use.

Every function acts on the caller itself, unless it is given a thread: lowering
oneself needs no right, and raising somebody else does.
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
"""Enough for a hundred workers that start at one time."""

_POLICIES = {os.SCHED_OTHER: "normal", os.SCHED_BATCH: "batch", os.SCHED_IDLE: "idle"}

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
_IOPRIO_CLASSES = {0: "none", 1: "realtime", 2: "best-effort", 3: "idle"}
"""Source: ioprio_set(2), linux/ioprio.h"""


def apply_affinity(cpus: frozenset[int]) -> None:
    """Bind to `cpus`; the kernel leaves out those that the cpuset forbids."""
    os.sched_setaffinity(0, cpus)


def read_affinity() -> frozenset[int]:
    """CPUs that may be used."""
    return frozenset(os.sched_getaffinity(0))


def apply_policy(policy: int) -> None:
    """Become SCHED_IDLE, SCHED_BATCH or SCHED_OTHER.

    Into SCHED_IDLE goes everybody; out of it only who has CAP_SYS_NICE or an
    RLIMIT_NICE that allows the nice value. Source: sched(7)
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
    """Get the disk only when nobody else wants it; BFQ and mq-deadline heed it."""
    apply_ioprio("idle")


def apply_ioprio(words: str, tid: int = 0) -> None:
    """Set the disk priority of a thread, as `read_ioprio` has it; 0 = the caller.

    Raises:
        ValueError: `words` are none of those that `read_ioprio` answers.
    """
    value = ctypes.c_int(_ioprio_value(words))
    syscall("ioprio_set", ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(tid), value)


def _ioprio_value(words: str) -> int:
    name, _, level = words.partition(":")
    number = next((number for number, known in _IOPRIO_CLASSES.items() if known == name), None)
    if number is None:
        raise ValueError(f'I/O priority "{words}": not one of {sorted(_IOPRIO_CLASSES.values())}')
    return (number << _IOPRIO_CLASS_SHIFT) | int(level or 0)


def read_ioprio(tid: int = 0) -> str:
    """The disk priority: "idle", "best-effort:N", "realtime:N" or "none"; "" if unknown.

    Args:
        tid: of a thread; 0 = the caller.
    """
    try:
        value = syscall("ioprio_get", ctypes.c_int(_IOPRIO_WHO_PROCESS), ctypes.c_int(tid))
    except OSError:
        return ""
    return parse_ioprio(value)


def parse_ioprio(value: int) -> str:
    """The words for what ioprio_get answers."""
    name = _IOPRIO_CLASSES.get(value >> _IOPRIO_CLASS_SHIFT, "other")
    if name in {"idle", "none"}:
        return name
    return f"{name}:{value & 7}"


def set_own_autogroup_nice(nice: int, proc: Path = PROC) -> None:
    """Set the weight of the caller's autogroup, and so of its whole session.

    Nice values and SCHED_IDLE count only inside one scheduling group, and each
    session is a group of its own. A process must have called setsid first, or
    it changes the weight of the session it was started from.

    Without CAP_SYS_ADMIN the whole machine may do this once in 0.1 s, so that
    the workers of a large one wait for each other here.

    Raises:
        FileNotFoundError: the kernel has no autogroups.
        PermissionError: lower than it was, without CAP_SYS_NICE.
        BlockingIOError: others were faster for AUTOGROUP_PATIENCE_S.
    Source: sched(7), kernel/sched/autogroup.c
    """
    until = time.monotonic() + AUTOGROUP_PATIENCE_S
    with owning_proc():
        fd = os.open(proc / "self" / "autogroup", os.O_WRONLY | os.O_CLOEXEC)
    try:
        while True:
            try:
                # A file object would answer EAGAIN with None instead of raising.
                os.write(fd, b"%d" % nice)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.02)
    finally:
        os.close(fd)


def has_autogroups(proc: Path = PROC) -> bool:
    """Whether each session that begins now is a scheduling group."""
    try:
        return (proc / "sys/kernel/sched_autogroup_enabled").read_text().strip() != "0"
    except OSError:
        return False


def read_autogroup_nice(proc: Path = PROC, pid: str = "self") -> int | None:
    """Nice value of a process's autogroup; None where autogroups do not count.

    None too for a process in the kernel's first session, that of init and of what it
    started without a session of its own: it is in the root group, whatever others are in.
    Source: kernel/sched/autogroup.c, proc_sched_autogroup_show_task
    """
    try:
        return parse_autogroup((proc / pid / "autogroup").read_text()) if has_autogroups(proc) else None
    except OSError:
        return None


def parse_autogroup(text: str) -> int | None:
    """The nice value in "/autogroup-9 nice 0"; None where there is none."""
    _, found, nice = text.strip().rpartition(" nice ")
    try:
        return int(nice) if found else None
    except ValueError:
        return None
