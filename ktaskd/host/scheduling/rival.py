"""A rival for one CPU, and how the CPU time is divided between the two.

The effect of a priority shows only next to a process that wants the same CPU. Both are measured by
their CPU time over the same period, so time that others take of that CPU does not matter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktaskd.host.cgroups import idlegroup
from ktaskd.host.root import HostRoot
from ktaskd.host.scheduling.cputime import read_cpu_seconds

_LOOP = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    for _ in range(100000):
        pass
"""


class Race:
    """Two processes that compete for one CPU."""

    def __init__(self, helper: int, rival: int) -> None:
        """Start counting now."""
        self._helper, self._rival = helper, rival
        self._helper_s, self._rival_s = read_cpu_seconds(helper), read_cpu_seconds(rival)

    @property
    def used(self) -> tuple[float, float]:
        """CPU seconds of the helper and of its rival since the start."""
        helper_s = read_cpu_seconds(self._helper) - self._helper_s
        return helper_s, read_cpu_seconds(self._rival) - self._rival_s

    @property
    def fraction(self) -> float:
        """The helper's part of the CPU time that both got, 0 to 1."""
        helper_s, rival_s = self.used
        return helper_s / ((helper_s + rival_s) or 1.0)


@contextmanager
def rival_on(cpu: int, group: Path | None = None) -> Iterator[int]:
    """Run a busy loop with nice 0 on one CPU, in a session of its own; yields its pid.

    It ends when this process ends, even by a signal.

    Args:
        group: directory of the cgroup that it is moved to; None = ours.
    """
    words = [sys.executable, "-I", "-c", _LOOP]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it is the loop now and no longer a copy of us
            os.sched_setaffinity(process.pid, {cpu})
            if group is not None:
                (group / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


@contextmanager
def group_for_rival(root: HostRoot) -> Iterator[Path]:
    """Make a cgroup with an ordinary weight directly below the root; yields its directory.

    Raises:
        IdleGroupRefused: no group can be made here.
    """
    group = idlegroup.find_top(root) / f"{idlegroup.own_name(root)}.rival"
    try:
        group.mkdir()
    except OSError as error:
        raise idlegroup.IdleGroupRefused(f"{group}: {error.strerror}") from error
    try:
        yield group
    finally:
        idlegroup.remove(group)
