"""Read what others on the machine wait for: io and memory of the whole machine, CPU of the others.

PSI counts tasks of SCHED_IDLE like any other, so that /proc/pressure/cpu rises
with our own helpers. Where there are cgroups of others, their own files are
asked (`host.others`); elsewhere it is worked out from the run queue.

Source: Documentation/accounting/psi.rst
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ktaskd.host.cpustat import OwnWork, RunQueue
from ktaskd.host.others import OtherGroups, parse_pressure
from ktaskd.host.root import HostRoot, read_kernel_text
from ktaskd.model.observation import Pressure, Stall

DERIVED = "derived from /proc/stat, less our workers"

SELF = "self"


class PressureReader:
    """Reads pressure again and again; CPU stall adds up from one reading to the next.

    Args (attributes):
        root: of the machine that is read.
    """

    def __init__(self, root: HostRoot) -> None:
        """Nothing is read yet."""
        self.root = root
        self._groups = OtherGroups(root)
        self._queue = RunQueue(root)
        self._cpu_us = 0

    def read(self, now_s: float, own: Collection[int] = ()) -> Pressure:
        """What the others suffer from now.

        Args:
            now_s: a clock that never goes back.
            own: processes of ours besides the one that reads: pool hosts and workers.
        """
        cpu, source = self._read_cpu(now_s, [SELF, *own])
        return Pressure(cpu, source, _read_stall(self.root, "io"), _read_stall(self.root, "memory"))

    @property
    def group_files(self) -> frozenset[Path]:
        """Files of the groups of others that the last reading read; empty where CPU is derived."""
        return self._groups.files

    def _read_cpu(self, now_s: float, own: Collection[int | str]) -> tuple[Stall | None, str]:
        queue_us = self._queue.read(now_s, OwnWork.read(self.root, own))
        groups_us = self._groups.read(now_s, own)
        if groups_us is not None:
            self._cpu_us += groups_us
            return Stall(self._cpu_us), self._groups.source
        if queue_us is not None:
            self._cpu_us += queue_us
            return Stall(self._cpu_us), DERIVED
        return None, ""


def _read_stall(root: HostRoot, resource: str) -> Stall | None:
    return parse_pressure(read_kernel_text(root.proc / "pressure" / resource) or "")
