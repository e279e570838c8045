"""A rival for one CPU, and who of two gets how much of it.

What a priority is worth shows only beside somebody who wants the same CPU.
Everything is measured in CPU time of the two, over the same stretch: what
others take of that CPU meanwhile does not count.
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
    """Two processes that want one CPU."""

    def __init__(self, helper: int, rival: int) -> None:
        """Begin to count now."""
        self._helper, self._rival = helper, rival
        self._helper_s, self._rival_s = read_cpu_seconds(helper), read_cpu_seconds(rival)

    @property
    def used(self) -> tuple[float, float]:
        """CPU seconds of the helper and of its rival since the beginning."""
        helper_s = read_cpu_seconds(self._helper) - self._helper_s
        return helper_s, read_cpu_seconds(self._rival) - self._rival_s

    @property
    def share(self) -> float:
        """What the helper got of all that both got, 0 to 1."""
        helper_s, rival_s = self.used
        return helper_s / ((helper_s + rival_s) or 1.0)


@contextmanager
def rival_on(cpu: int, group: Path | None = None) -> Iterator[int]:
    """A busy loop with nice 0 on one CPU, in a session of its own; its pid.

    It ends with this process, however that ends.

    Args:
        group: directory of the cgroup that it goes to; None = where we are.
    """
    words = [sys.executable, "-I", "-c", _LOOP]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it is the loop now, no more a copy of us
            os.sched_setaffinity(process.pid, {cpu})
            if group is not None:
                (group / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()


@contextmanager
def group_for_rival(root: HostRoot) -> Iterator[Path]:
    """A cgroup with an ordinary weight directly below the root; its directory.

    Raises:
        IdleGroupRefused: none can be made here.
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
