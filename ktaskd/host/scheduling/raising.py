"""Give a starved helper normal priority and take it back, and bind another process to CPUs.

Up to three things hold a helper down: its cgroup, the nice value of its autogroup, and
its own policy. Each has a method that lifts it, and each method needs a right of its own.
Which methods work here is tried once on a real helper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

from ktaskd.host.cgroups import cgroup_fd
from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.cgroups.cpugroup import read_cpu_groups
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.host.scheduling.sched import parse_autogroup, read_autogroup_nice


class Method(Enum):
    """How one of the things that hold a helper down is lifted; best first."""

    GROUP = "out of the idle cgroup"
    AUTOGROUP = "autogroup nice 0"
    POLICY = "SCHED_OTHER and nice 0"


_FIX = {
    Method.GROUP: "let systemd open both cgroups as StandardOutput= of the two units, or start the daemon "
    "as root outside the helpers' group",
    Method.AUTOGROUP: "let the daemon write /proc/PID/autogroup of its workers",
    Method.POLICY: "give the daemon CAP_SYS_NICE, or it and its workers LimitNICE=+0",
}
"""How to make a method work, in words."""


class Raiser:
    """Raises helpers to normal priority and lowers them again.

    A starved process takes seconds to die of SIGKILL, and its chunk never ends if it
    cannot be cut. Raised first, the process dies or finishes at once.

    Attributes:
        known: whether the methods were tried; until then all of them are used.
        methods: those that work here, in words, best first.
        missing: those that are needed and do not work, and how to get them, in words.
    """

    def __init__(self, idle_fd: int = -1, normal_fd: int = -1, root: HostRoot | None = None) -> None:
        """Nothing is tried yet.

        Args:
            idle_fd, normal_fd: cgroup.procs of the helpers' group and of a group
                with an ordinary weight; they stay the caller's. -1 = there is
                no such group, or `find_out` opens them.
            root: the machine whose /proc and cgroups are used.
        """
        self.known = False
        self.methods: tuple[str, ...] = ()
        self.missing: tuple[str, ...] = ()
        self._root = root or HostRoot()
        self._idle_fd, self._normal_fd = idle_fd, normal_fd
        self._owned: list[int] = []
        self._use = frozenset(Method) if idle_fd >= 0 else frozenset(Method) - {Method.GROUP}
        self._needed = self._use
        self._untried: list[Method] | None = None
        self._worked: dict[Method, str] = {}

    def close(self) -> None:
        """Close what was opened here."""
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()
        self._idle_fd = self._normal_fd = -1
        self._use -= {Method.GROUP}

    def take_cgroup_fds(self, idle_fd: int, normal_fd: int) -> None:
        """Own these descriptors and use them from now on; the methods are then to be tried again.

        Args:
            idle_fd, normal_fd: as for a new one; those taken before are closed.
        """
        self.close()
        self._owned = [fd for fd in (idle_fd, normal_fd) if fd >= 0]
        if len(self._owned) == 2:
            self._idle_fd, self._normal_fd = idle_fd, normal_fd
        else:
            self.close()  # one alone is of no use; `find_out` may open both
        self.known, self.methods, self.missing = False, (), ()
        self._untried, self._worked = None, {}
        self._use = self._needed = (
            frozenset(Method) if self._idle_fd >= 0 else frozenset(Method) - {Method.GROUP}
        )

    def leads_into(self, idle_fd: int) -> bool:
        """Whether `idle_fd` belongs to the helpers' group that is used now."""
        return self._idle_fd >= 0 and cgroup_fd.same(self._idle_fd, idle_fd)

    def raise_(self, pid: int) -> bool:
        """Let a helper run like any other process. Never blocks.

        Returns:
            Whether nothing holds it down now. If False it may help to try again later:
            without CAP_SYS_ADMIN the kernel takes one change of an autogroup in 0.1 s from
            the whole machine.
        """
        failed = self._attempt(_RAISE, pid)
        return self._needed <= self._use - failed.keys()

    def lower(self, pid: int) -> bool:
        """Undo `raise_`; False if something could not be undone yet, True also if the helper is gone."""
        failed = self._attempt(_LOWER, pid)
        return all(isinstance(error, ProcessLookupError) for error in failed.values())

    def find_out(self, pid: int) -> bool:
        """Try every method on a helper, which has its low priority again afterwards.

        Returns:
            Whether all were tried. If not, call it again after 0.1 s, with this helper or
            another one.
        """
        if self._untried is None:
            self._untried = self._learn(pid)
        while self._untried:
            why = self._try(self._untried[0], pid)
            if why is None:
                return False
            self._worked[self._untried.pop(0)] = why
        failed = self._attempt(_LOWER, pid)
        if any(isinstance(error, BlockingIOError | ProcessLookupError) for error in failed.values()):
            return False
        # A method that cannot be reverted is unusable.
        self._worked.update(
            (method, f"cannot be reverted: {error.strerror}") for method, error in failed.items()
        )
        self._conclude()
        return True

    def _learn(self, pid: int) -> list[Method]:
        """Find which methods this helper needs, by its groups and ours; in the order of trying."""
        helper, own = read_cpu_groups(self._root, str(pid)), read_cpu_groups(self._root)
        grouped = any(helper.idle)
        if grouped and self._idle_fd < 0 and not any(own.idle):
            self._open_groups(pid)
        # The helper's autogroup is read and not ours: a daemon whose session began with the
        # kernel, like that of a container's first process, is in no autogroup.
        in_autogroup = read_autogroup_nice(self._root.proc, str(pid)) is not None
        by_session = not own.idle and not own.enclosed and in_autogroup
        # A helper is alone in its session, so it has all of the session's weight.
        self._needed = frozenset({Method.AUTOGROUP if by_session else Method.POLICY})
        if grouped:
            self._needed |= {Method.GROUP}
        tried = self._needed | {Method.POLICY}
        self._use = tried if self._idle_fd >= 0 else tried - {Method.GROUP}
        return [method for method in Method if method in tried]

    def _open_groups(self, pid: int) -> None:
        """Open cgroup.procs of groups that were made by somebody else, such as systemd."""
        try:
            for name in (str(pid), "self"):
                found = cpu_levels(self._root, name)
                directory = list(found[2])[-1] if found else Path()
                self._owned.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            self._idle_fd, self._normal_fd = self._owned
        except OSError:
            self.close()

    def _try(self, method: Method, pid: int) -> str | None:
        """Try one method: "" = it works, else why not; None = try it again later."""
        if method is Method.GROUP and self._normal_fd < 0:
            return "the daemon is in an idle cgroup itself, or may not write both cgroup.procs"
        try:
            _RAISE[method](self, pid)
            return (
                "" if _IS_RAISED[method](self, pid) else "the kernel accepted the change without any effect"
            )
        except (BlockingIOError, ProcessLookupError):
            return None
        except OSError as error:
            return error.strerror or str(error)

    def _conclude(self) -> None:
        works = {method for method, why in self._worked.items() if not why}
        self._use = frozenset(works)
        self.known = True
        self.methods = tuple(method.value for method in Method if method in works)
        self.missing = tuple(
            f"raising a helper ({method.value}) does not work: {self._worked[method]}; {_FIX[method]}"
            for method in Method
            if method in self._needed - works
        )

    def _attempt(
        self, calls: Mapping[Method, Callable[[Raiser, int], None]], pid: int
    ) -> dict[Method, OSError]:
        """Use all methods that work; returns those that failed."""
        failed: dict[Method, OSError] = {}
        for method in self._use:
            try:
                calls[method](self, pid)
            except OSError as error:
                failed[method] = error
        return failed

    # -- the methods ----------------------------------------------------------

    def _leave_group(self, pid: int) -> None:
        os.write(self._normal_fd, b"%d" % pid)

    def _enter_group(self, pid: int) -> None:
        os.write(self._idle_fd, b"%d" % pid)

    def _has_left(self, pid: int) -> bool:
        return read_cpu_groups(self._root, str(pid)).path == read_cpu_groups(self._root).path

    def _raise_autogroup(self, pid: int) -> None:
        self._set_autogroup(pid, 0)

    def _lower_autogroup(self, pid: int) -> None:
        self._set_autogroup(pid, 19)

    def _set_autogroup(self, pid: int, nice: int) -> None:
        if self._autogroup_of(pid) == nice:
            return  # each write counts towards the limit of the kernel
        # sched.set_own_autogroup_nice would wait, which the event loop must not.
        try:
            fd = os.open(self._root.proc / str(pid) / "autogroup", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ProcessLookupError(error.errno, error.strerror) from error
        try:
            os.write(fd, b"%d" % nice)
        finally:
            os.close(fd)

    def _is_autogroup_raised(self, pid: int) -> bool:
        return self._autogroup_of(pid) == 0

    def _autogroup_of(self, pid: int) -> int | None:
        return parse_autogroup(read_kernel_text(self._root.proc / str(pid) / "autogroup") or "")

    def _raise_policy(self, pid: int) -> None:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, pid, 0)

    def _lower_policy(self, pid: int) -> None:
        os.setpriority(os.PRIO_PROCESS, pid, 19)
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))

    def _is_policy_raised(self, pid: int) -> bool:
        return os.sched_getscheduler(pid) == os.SCHED_OTHER and os.getpriority(os.PRIO_PROCESS, pid) == 0


_RAISE = {
    Method.GROUP: Raiser._leave_group,
    Method.AUTOGROUP: Raiser._raise_autogroup,
    Method.POLICY: Raiser._raise_policy,
}
_LOWER = {
    Method.GROUP: Raiser._enter_group,
    Method.AUTOGROUP: Raiser._lower_autogroup,
    Method.POLICY: Raiser._lower_policy,
}
_IS_RAISED = {
    Method.GROUP: Raiser._has_left,
    Method.AUTOGROUP: Raiser._is_autogroup_raised,
    Method.POLICY: Raiser._is_policy_raised,
}


def bind_to_cpus(pid: int, cpus: frozenset[int]) -> bool:
    """Set the CPUs of another process; False if it is gone or not ours."""
    try:
        os.sched_setaffinity(pid, cpus)
    except OSError:
        return False
    return True
