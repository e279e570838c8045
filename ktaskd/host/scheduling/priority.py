"""The priority of another process: read from procfs, and set from outside.

Lowering a process of the same user needs no right. Raising it again needs CAP_SYS_NICE, or an
RLIMIT_NICE of that process that allows the nice value.
Source: sched(7), setpriority(2), ioprio_set(2)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.host.scheduling.sched import apply_ioprio, has_autogroups, parse_autogroup, read_ioprio
from ktaskd.model.priority import Priority

_NICE_FIELD, _POLICY_FIELD = 19, 41
"""Numbers of the fields "nice" and "policy" of /proc/PID/stat. Source: proc_pid_stat(5)."""

_POLICIES = {os.SCHED_BATCH: "batch", os.SCHED_IDLE: "idle"}
_NUMBERS = {"normal": os.SCHED_OTHER, "batch": os.SCHED_BATCH, "idle": os.SCHED_IDLE}
_LOWEST_NICE = 19


def read_priority(root: HostRoot, pid: int) -> Priority:
    """Read the priority of a process's main thread; an ordinary one if it cannot be read.

    A process in a cgroup with `cpu.idle` counts as SCHED_IDLE, unless we are in that group too,
    since the group then makes no difference between that process and us.
    """
    is_real = root.top == Path("/")
    fields = (root.process_text(pid, "stat") or "").rpartition(")")[2].split()
    try:
        nice, policy = int(fields[_NICE_FIELD - 3]), int(fields[_POLICY_FIELD - 3])
    except (IndexError, ValueError):
        # With hidepid procfs hides the processes of other users; system calls do not.
        return ask_priority(pid, Priority()) if is_real else Priority()
    idle = policy == os.SCHED_IDLE or _in_idle_group(root, pid)
    # The I/O priority is in no file: only the running kernel knows it.
    ioprio = read_ioprio(pid) if is_real else "none"
    return Priority("idle" if idle else _POLICIES.get(policy, "normal"), nice, ioprio)


def ask_priority(pid: int, known: Priority) -> Priority:
    """Read the same with three system calls, without the cgroups.

    Args:
        known: the priority that was read before. Its policy "idle" stays, since it may come
            from a cgroup. It is returned unchanged if there is no such process.
    """
    if pid <= 0:
        return known  # the process is in another pid namespace; 0 would mean ourselves
    try:
        nice, policy = os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid)
    except OSError:
        return known
    name = _POLICIES.get(policy & ~os.SCHED_RESET_ON_FORK, "normal")
    return Priority("idle" if known.policy == "idle" else name, nice, read_ioprio(pid) or known.ioprio)


def _in_idle_group(root: HostRoot, pid: int) -> bool:
    theirs = _levels(root, str(pid))
    return any(
        (read_kernel_text(level / "cpu.idle") or "").strip() == "1"
        for level in theirs.difference(_levels(root, "self") if theirs else ())
    )


def _levels(root: HostRoot, pid: str) -> frozenset[Path]:
    found = cpu_levels(root, pid)
    return frozenset(found[2]) if found is not None else frozenset()


def set_priority(pid: int, wanted: Priority, proc: Path = Path("/proc")) -> dict[str, OSError]:
    """Give all threads of a process this priority, and its autogroup the same nice value.

    Returns:
        The settings that failed, each with its error. BlockingIOError comes only from
        "autogroup nice", which the kernel changes once in 0.1 s.
    """
    steps: list[tuple[str, Callable[[], object]]] = []
    for tid in _threads(proc, pid):
        steps += [
            (f"policy {wanted.policy}", partial(_set_policy, tid, wanted.policy)),
            (f"nice {wanted.nice}", partial(os.setpriority, os.PRIO_PROCESS, tid, wanted.nice)),
            (f"ioprio {wanted.ioprio}", partial(apply_ioprio, wanted.ioprio, tid)),
        ]
    nice = _LOWEST_NICE if wanted.policy == "idle" else wanted.nice
    steps.append((f"autogroup nice {nice}", partial(_set_autogroup, proc, pid, nice)))
    return _failures(steps)


def _failures(steps: Iterable[tuple[str, Callable[[], object]]]) -> dict[str, OSError]:
    failed: dict[str, OSError] = {}
    for what, call in steps:
        try:
            call()
        except ProcessLookupError:
            continue  # the thread has ended
        except OSError as error:
            failed[what] = error
    return failed


def _threads(proc: Path, pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc / str(pid) / "task")]
    except OSError:
        return [pid]


def _set_policy(tid: int, policy: str) -> None:
    if os.sched_getscheduler(tid) != _NUMBERS[policy]:
        os.sched_setscheduler(tid, _NUMBERS[policy], os.sched_param(0))


def _set_autogroup(proc: Path, pid: int, nice: int) -> None:
    path = proc / str(pid) / "autogroup"
    known = parse_autogroup(read_kernel_text(path) or "") if has_autogroups(proc) else None
    if known is None or known == nice:
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"%d" % nice)
    finally:
        os.close(fd)
