"""Sets up a freshly forked worker before its first chunk.

Everything is read back from the kernel afterwards. A setting that could not be applied becomes a
sentence in `Applied.missing`. Only a failed change of user, or a closed memory cgroup, ends the worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from ktaskd.host.cgroups import memgroup
from ktaskd.host.cgroups.cpugroup import CpuGroups, gives_way_by, read_cpu_groups, why_not
from ktaskd.host.memory import barrier, erasing, mempolicy
from ktaskd.host.processes import confine, descendants, process
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling import sched
from ktaskd.model.topology import format_cpulist
from ktaskd.model.worker import Applied, Placement, WorkerClass

HELPER_OOM_SCORE = 800
"""Helpers are killed before nearly everything else: their chunk can be run again or undone. Below 1000,
since at 1000 a helper of 5 MiB would be killed before a leak of 50 GiB."""

LEAD_OOM_SCORE = 500
"""A lead works while a client waits, but the client and its data matter more."""

GUEST_OOM_SCORE = 1000
"""A worker in a caller's memory cgroup is killed first when the cgroup is full: the caller must not die
of its own job. With 800 it could, if it used more than 0.8 of the limit.
Source: oom_badness in mm/oom_kill.c, where 1000 stands for the whole limit of the group."""


_CONFINED_BY = {
    "landlock": "boot a kernel with Landlock, and with it in lsm=",
    "seccomp": "boot a kernel with seccomp filters, and let the service call seccomp",
}


_KEPT = {"freed memory": "not erased; run it with the GNU C library"}


class GroupClosed(OSError):
    """The worker cannot enter its memory cgroup."""


def apply(placement: Placement, parent: int = 0, missing_before: Sequence[str] = ()) -> Applied:
    """Set up the calling process, and return its settings.

    Args:
        parent: pid of the pool host; 0 = the current parent.
        missing_before: settings that could not be applied before, in words.
    Raises:
        GroupClosed: the process could not enter its memory cgroup.
        OSError: the process could not become its user.
    """
    parent = parent or os.getppid()
    helper = placement.worker_class is WorkerClass.HELPER
    missing = list(missing_before)
    _apply_signals()
    if not helper and os.getsid(0) != os.getpid():
        # A session is an autogroup: the lead leaves that of the helpers.
        os.setsid()
    _attempt(missing, "RLIMIT_CORE and RLIMIT_NOFILE", process.apply_limits)
    # Before the change of user, after which /proc/self may belong to root.
    score = HELPER_OOM_SCORE if helper else LEAD_OOM_SCORE
    if placement.memory_group:
        score = GUEST_OOM_SCORE
    _attempt(missing, f"oom_score_adj {score}", lambda: process.raise_oom_score(score))
    _apply_place(placement, missing)
    if helper:
        _apply_lowest(missing)
    else:
        _apply_normal(missing)
    if not barrier.register():
        missing.append("membarrier: refused, so leases are not shortened; allow it in the service's filter")
    if placement.memory_group:
        _enter_memory_group(placement.memory_group)
    _apply_identity(placement, parent, missing)
    return _read_back(placement, missing, _give_up(missing, confined=not placement.own_code))


def _attempt(missing: list[str], what: str, call: Callable[[], object], hint: str = "") -> None:
    """Call `call`; if it fails, add a sentence to `missing`."""
    try:
        call()
    except (OSError, ValueError) as error:
        missing.append(f"{what}: {error}{'; ' if hint else ''}{hint}")


def _apply_signals() -> None:
    """Reset the signal handling that the pool host set up.

    Ctrl-C in the terminal of a daemon goes to its whole process group, but only the daemon decides
    what to do about it.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _apply_place(placement: Placement, missing: list[str]) -> None:
    """Bind to the CPUs, and prefer memory of the node."""
    if placement.cpus:
        _attempt(
            missing,
            f"affinity {format_cpulist(placement.cpus)}",
            lambda: sched.apply_affinity(placement.cpus),
            "add these CPUs to the daemon's cpuset",
        )
    if placement.nid >= 0:
        _attempt(
            missing,
            f"mempolicy prefer:{placement.nid}",
            lambda: mempolicy.apply_preferred(placement.nid),
            "allow set_mempolicy in the container's seccomp filter",
        )


def _apply_lowest(missing: list[str]) -> None:
    """Take the priority of a helper; this needs no privilege."""
    _attempt(missing, "ioprio idle", sched.apply_ioprio_idle)
    # The nice value has no effect under SCHED_IDLE, but a large one after a raise out of it.
    _attempt(missing, "nice 19", lambda: sched.apply_nice(19))
    _attempt(missing, "SCHED_IDLE", lambda: sched.apply_policy(os.SCHED_IDLE))


def _apply_normal(missing: list[str]) -> None:
    """Take the priority of a lead, if the daemon itself was started with a lower one."""
    hint = "start the daemon with nice 0 and SCHED_OTHER, or with LimitNICE=+0"
    if sched.read_policy() != "normal":
        _attempt(missing, "SCHED_OTHER", lambda: sched.apply_policy(os.SCHED_OTHER), hint)
    if sched.read_nice() > 0:
        _attempt(missing, "nice 0", lambda: sched.apply_nice(0), hint)


def _enter_memory_group(group: str) -> None:
    """Enter the memory cgroup. The last move: under cgroup v2 it also changes the CPU cgroup."""
    try:
        memgroup.enter(group)
    except OSError as error:
        raise GroupClosed(f"memory cgroup {group}: {error.strerror or error}") from error


def _apply_identity(placement: Placement, parent: int, missing: list[str]) -> None:
    """Become the user, then arrange to die with the parent."""
    privileged = os.geteuid() == 0
    if placement.uid >= 0:
        process.apply_user(placement.uid, placement.gid)
    _attempt(missing, "PR_SET_PDEATHSIG", lambda: process.set_death_signal(signal.SIGKILL))
    if os.getppid() != parent:
        # The parent died before the death signal was set.
        os._exit(0)
    # Processes that a chunk starts stay below this one, so the pool host knows whose they are.
    _attempt(missing, "PR_SET_CHILD_SUBREAPER", descendants.adopt_orphans)
    _attempt(missing, "no_new_privs", process.apply_no_new_privileges)
    if privileged or (placement.uid >= 0 and os.getuid() != 0):
        # Workers for jobs of several users have one uid, and none may read another's memory
        # through /proc. Workers of a per-user daemon hold only data of their own user, who may
        # debug them. A worker whose pool host is not dumpable is not dumpable either.
        _attempt(missing, "PR_SET_DUMPABLE 0", process.apply_undumpable)


def _give_up(missing: list[str], *, confined: bool) -> tuple[str, ...]:
    """Give up rights that no chunk needs, for good; returns them in words."""
    given = {"new privileges": process.has_no_new_privileges(), "core dumps": process.has_no_core()}
    if confined:
        before = len(missing)
        _attempt(missing, "other processes", confine.give_up_other_processes, _CONFINED_BY["landlock"])
        given["other processes"] = len(missing) == before
        _attempt(missing, "network", confine.give_up_network, _CONFINED_BY["seccomp"])
        given["network"] = not confine.has_network()
    if confined and not process.read_dumpable():
        # The worker serves several users, one after the other.
        given["freed memory"] = erasing.erases()
    kept = [f"{what}: {_KEPT.get(what, 'not given up')}" for what, is_so in given.items() if not is_so]
    missing.extend(text for text in kept if not _is_reported(text, missing))
    return tuple(what for what, is_so in given.items() if is_so)


def confine_late() -> None:
    """Give up the network and other processes before the first job that needs neither.

    Failures are ignored if the kernel lacks a feature: only the daemon's own user has jobs here.
    """
    for give_up in (confine.give_up_other_processes, confine.give_up_network):
        with contextlib.suppress(OSError):
            give_up()


def _read_back(placement: Placement, missing: list[str], gave_up: tuple[str, ...]) -> Applied:
    """The settings as the kernel reports them, with a sentence for each that differs from `placement`."""
    place = read_cpu_groups(HostRoot())
    applied = Applied(
        cpus=sched.read_affinity(),
        policy=sched.read_policy(),
        nice=sched.read_nice(),
        ioprio=sched.read_ioprio(),
        oom_score_adj=process.read_oom_score(),
        autogroup_nice=sched.read_autogroup_nice(),
        cgroup=place.path,
        mempolicy=mempolicy.read_mempolicy(),
        uid=os.getuid(),
        gave_up=gave_up,
    )
    if placement.worker_class is WorkerClass.HELPER:
        by = gives_way_by(place, applied.autogroup_nice, applied.policy)
        applied = replace(applied, gives_way_by=by)
    texts = [*compare(placement, applied), *compare_place(placement, applied, place)]
    missing.extend(text for text in texts if not _is_reported(text, missing))
    return replace(applied, missing=tuple(missing))


def _is_reported(text: str, missing: list[str]) -> bool:
    """Whether a failed attempt has already been reported."""
    what = text.partition(":")[0]
    return any(known.startswith(what) for known in missing)


def compare(placement: Placement, applied: Applied) -> list[str]:
    """The settings in `applied` that differ from `placement`, in words. Pure."""
    texts = []
    if placement.cpus and applied.cpus != placement.cpus:
        got, wanted = format_cpulist(applied.cpus), format_cpulist(placement.cpus)
        texts.append(f"affinity {wanted}: got {got}; add these CPUs to the daemon's cpuset")
    wanted_policy = f"prefer:{placement.nid}"
    if placement.nid >= 0 and applied.mempolicy != wanted_policy:
        texts.append(f"mempolicy {wanted_policy}: got {applied.mempolicy or 'an unreadable policy'}")
    if placement.uid >= 0 and applied.uid != placement.uid:
        texts.append(f"uid {placement.uid}: got {applied.uid}")
    helper = placement.worker_class is WorkerClass.HELPER
    return texts + (_compare_helper(applied) if helper else _compare_lead(applied))


def _compare_helper(applied: Applied) -> list[str]:
    """The settings that a helper should have and does not, in words."""
    texts = []
    if applied.policy != "idle":
        texts.append(f"SCHED_IDLE: got policy {applied.policy}; allow sched_setscheduler")
    if applied.nice != 19:
        texts.append(f"nice 19: got {applied.nice}; allow setpriority")
    if applied.ioprio != "idle":
        texts.append(f"ioprio idle: got {applied.ioprio or 'no answer'}; allow ioprio_set")
    if applied.oom_score_adj < HELPER_OOM_SCORE:
        texts.append(f"oom_score_adj {HELPER_OOM_SCORE}: got {applied.oom_score_adj}")
    return texts


def _compare_lead(applied: Applied) -> list[str]:
    """The settings that a lead should have and does not, in words."""
    texts = []
    if applied.policy != "normal":
        texts.append(f"SCHED_OTHER: got policy {applied.policy}; start the daemon with SCHED_OTHER")
    if applied.nice > 0:
        texts.append(f"nice 0: got {applied.nice}; start the daemon with nice 0")
    if applied.oom_score_adj < LEAD_OOM_SCORE:
        texts.append(f"oom_score_adj {LEAD_OOM_SCORE}: got {applied.oom_score_adj}")
    if applied.autogroup_nice not in (None, 0) and applied.cgroup in ("", "/"):
        texts.append(f"autogroup nice 0: got {applied.autogroup_nice}; the lead needs its own session")
    return texts


def compare_place(placement: Placement, applied: Applied, place: CpuGroups) -> list[str]:
    """In words, that a helper does not give way, or that a lead does; empty if all is right. Pure."""
    if placement.worker_class is WorkerClass.LEAD:
        if not any(place.idle):
            return []
        return [
            f"normal weight: it is in the idle cgroup {place.path}; keep the daemon out of the helpers' slice"
        ]
    return [] if applied.gives_way_by else [f"giving way: {why_not(place)}"]
