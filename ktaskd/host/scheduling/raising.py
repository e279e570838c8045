"""Giving a starved helper the CPU and taking it back, and binding another process to CPUs.

What holds a helper down are up to three things: its cgroup, the nice value of
its autogroup, and its own policy. Each has a way out, and each way needs a
right of its own. Which work here is tried once on a real helper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path

from ktaskd.host.cgroups import cgroup_fd as door
from ktaskd.host.cgroups.cgroup import cpu_levels
from ktaskd.host.cgroups.cpugroup import read_cpu_place
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.host.scheduling.sched import parse_autogroup, read_autogroup_nice


class Way(Enum):
    """One thing that holds a helper down, taken away; best first."""

    GROUP = "out of the idle cgroup"
    AUTOGROUP = "autogroup nice 0"
    POLICY = "SCHED_OTHER and nice 0"


_HOW = {
    Way.GROUP: "let systemd open both cgroups as StandardOutput= of the two units, or start the daemon "
    "as root, outside of the helpers' group",
    Way.AUTOGROUP: "let the daemon write /proc/PID/autogroup of its workers",
    Way.POLICY: "give the daemon CAP_SYS_NICE, or it and its workers LimitNICE=+0",
}
"""What makes a way work, in words."""


class Raiser:
    """Raises helpers to normal priority and lowers them again.

    A starved process takes seconds to die of SIGKILL, and a chunk of one that
    cannot be cut never ends; raised first, both take none.

    Attributes:
        known: whether the ways were tried; until then every one is used.
        ways: those that work here, in words, best first.
        missing: what does not and how to get it, in words.
    """

    def __init__(self, idle_fd: int = -1, normal_fd: int = -1, root: HostRoot | None = None) -> None:
        """Nothing is tried yet.

        Args:
            idle_fd, normal_fd: cgroup.procs of the helpers' group and of one
                with an ordinary weight; they stay the caller's. -1 = there is
                no such group, or `find_out` opens them.
            root: where /proc and the cgroups are.
        """
        self.known = False
        self.ways: tuple[str, ...] = ()
        self.missing: tuple[str, ...] = ()
        self._root = root or HostRoot()
        self._idle_fd, self._normal_fd = idle_fd, normal_fd
        self._owned: list[int] = []
        self._use = frozenset(Way) if idle_fd >= 0 else frozenset(Way) - {Way.GROUP}
        self._needed = self._use
        self._untried: list[Way] | None = None
        self._worked: dict[Way, str] = {}

    def close(self) -> None:
        """Close what was opened here."""
        for fd in self._owned:
            os.close(fd)
        self._owned.clear()
        self._idle_fd = self._normal_fd = -1
        self._use -= {Way.GROUP}

    def take_doors(self, idle_fd: int, normal_fd: int) -> None:
        """Own these doors and use them from now on; what works is to be found out again.

        Args:
            idle_fd, normal_fd: as of a new one; those taken before are closed.
        """
        self.close()
        self._owned = [fd for fd in (idle_fd, normal_fd) if fd >= 0]
        if len(self._owned) == 2:
            self._idle_fd, self._normal_fd = idle_fd, normal_fd
        else:
            self.close()  # one alone is no way; `find_out` may open both
        self.known, self.ways, self.missing = False, (), ()
        self._untried, self._worked = None, {}
        self._use = self._needed = frozenset(Way) if self._idle_fd >= 0 else frozenset(Way) - {Way.GROUP}

    def leads_into(self, idle_fd: int) -> bool:
        """Whether the helpers' group that it has a door to is the one of `idle_fd`."""
        return self._idle_fd >= 0 and door.same(self._idle_fd, idle_fd)

    def raise_(self, pid: int) -> bool:
        """Let a helper run as any other process; whether that is so now.

        Never blocks. Where False, something still holds it down: without
        CAP_SYS_ADMIN the kernel takes one change of an autogroup in 0.1 s of the
        whole machine, so to try again then may help.
        """
        failed = self._attempt(_RAISE, pid)
        return self._needed <= self._use - failed.keys()

    def lower(self, pid: int) -> bool:
        """Make a helper what it was; False where it is not, as with `raise_`. True if it is gone."""
        failed = self._attempt(_LOWER, pid)
        return all(isinstance(error, ProcessLookupError) for error in failed.values())

    def find_out(self, pid: int) -> bool:
        """Try every way on a helper, which is low again afterwards.

        Returns:
            Whether all were tried; else it is to be called again after 0.1 s,
            with this helper or another one.
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
        # What could not be taken back is no way, since it would be for good.
        self._worked.update((way, f"not taken back: {error.strerror}") for way, error in failed.items())
        self._conclude()
        return True

    def _learn(self, pid: int) -> list[Way]:
        """Which ways are needed by where this helper is and where a raised one goes."""
        helper, own = read_cpu_place(self._root, str(pid)), read_cpu_place(self._root)
        grouped = any(helper.idle)
        if grouped and self._idle_fd < 0 and not any(own.idle):
            self._open_groups(pid)
        # Asked of the helper: a daemon whose session began with the kernel, as that of
        # a container's first process may, is in no autogroup itself.
        in_autogroup = read_autogroup_nice(self._root.proc, str(pid)) is not None
        by_session = not own.idle and not own.enclosed and in_autogroup
        # The only one in its session, a helper has all of its session's weight.
        self._needed = frozenset({Way.AUTOGROUP if by_session else Way.POLICY})
        if grouped:
            self._needed |= {Way.GROUP}
        tried = self._needed | {Way.POLICY}
        self._use = tried if self._idle_fd >= 0 else tried - {Way.GROUP}
        return [way for way in Way if way in tried]

    def _open_groups(self, pid: int) -> None:
        """Open the doors of the groups that somebody else made, as systemd does."""
        try:
            for name in (str(pid), "self"):
                found = cpu_levels(self._root, name)
                directory = list(found[2])[-1] if found else Path()
                self._owned.append(os.open(directory / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            self._idle_fd, self._normal_fd = self._owned
        except OSError:
            self.close()

    def _try(self, way: Way, pid: int) -> str | None:
        """Go one way: "" = it works, else why not; None = that could not be seen now."""
        if way is Way.GROUP and self._normal_fd < 0:
            return "the daemon is in an idle cgroup itself, or may not write to the cgroup.procs of both"
        try:
            _RAISE[way](self, pid)
            return "" if _IS_RAISED[way](self, pid) else "the kernel took it and changed nothing"
        except (BlockingIOError, ProcessLookupError):
            return None
        except OSError as error:
            return error.strerror or str(error)

    def _conclude(self) -> None:
        works = {way for way, why in self._worked.items() if not why}
        self._use = frozenset(works)
        self.known = True
        self.ways = tuple(way.value for way in Way if way in works)
        self.missing = tuple(
            f"raising a helper by {way.value}: {self._worked[way]}; {_HOW[way]}"
            for way in Way
            if way in self._needed - works
        )

    def _attempt(self, calls: Mapping[Way, Callable[[Raiser, int], None]], pid: int) -> dict[Way, OSError]:
        """Go all ways; those that failed."""
        failed: dict[Way, OSError] = {}
        for way in self._use:
            try:
                calls[way](self, pid)
            except OSError as error:
                failed[way] = error
        return failed

    # -- the ways -------------------------------------------------------------

    def _leave_group(self, pid: int) -> None:
        os.write(self._normal_fd, b"%d" % pid)

    def _enter_group(self, pid: int) -> None:
        os.write(self._idle_fd, b"%d" % pid)

    def _has_left(self, pid: int) -> bool:
        return read_cpu_place(self._root, str(pid)).path == read_cpu_place(self._root).path

    def _raise_autogroup(self, pid: int) -> None:
        self._set_autogroup(pid, 0)

    def _lower_autogroup(self, pid: int) -> None:
        self._set_autogroup(pid, 19)

    def _set_autogroup(self, pid: int, nice: int) -> None:
        if self._autogroup_of(pid) == nice:
            return  # each change counts for the kernel's limit
        # Not as sched.set_own_autogroup_nice: nobody may wait here.
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
    Way.GROUP: Raiser._leave_group,
    Way.AUTOGROUP: Raiser._raise_autogroup,
    Way.POLICY: Raiser._raise_policy,
}
_LOWER = {
    Way.GROUP: Raiser._enter_group,
    Way.AUTOGROUP: Raiser._lower_autogroup,
    Way.POLICY: Raiser._lower_policy,
}
_IS_RAISED = {
    Way.GROUP: Raiser._has_left,
    Way.AUTOGROUP: Raiser._is_autogroup_raised,
    Way.POLICY: Raiser._is_policy_raised,
}


def bind_to_cpus(pid: int, cpus: frozenset[int]) -> bool:
    """Set the CPUs of another process; False if it is gone or not ours."""
    try:
        os.sched_setaffinity(pid, cpus)
    except OSError:
        return False
    return True
