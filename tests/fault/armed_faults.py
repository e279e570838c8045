"""Faults that wait for a worker or a pool host to pass them."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ktaskd.host.faults import ACTIONS, ANY, POINTS, VARIABLE


class ArmedFaults:
    """A directory of faults, in the order in which they were armed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._numbers = itertools.count(1)

    @property
    def environ(self) -> dict[str, str]:
        """The environment that a process needs to find the faults."""
        return {VARIABLE: str(self.directory)}

    def arm(self, point: str, action: str, function: str = ANY) -> str:
        """Have the fault happen once; returns its name."""
        assert point in POINTS, point
        assert action in ACTIONS, action
        name = f"{next(self._numbers):06}~{point}~{action}~{function}"
        (self.directory / name).touch()
        return name

    def arm_all(self, words: str, function: str = ANY) -> list[str]:
        """Faults as in "worker.mid_chunk:kill*3 worker.in_undo:pass"."""
        names = []
        for word in words.split():
            fault, _, times = word.partition("*")
            point, action = fault.split(":")
            names += [self.arm(point, action, function) for _ in range(int(times or 1))]
        return names

    def fired(self) -> dict[str, int]:
        """The faults that happened, each with the pid of the process that it hit."""
        found = {}
        for path in self.directory.glob("fired~*"):
            _, pid, name = path.name.split("~", 2)
            found[name] = int(pid)
        return found

    def waiting(self) -> list[str]:
        """The faults that no process has passed yet."""
        return sorted(path.name for path in self.directory.iterdir() if not path.name.startswith("fired~"))

    def clear(self) -> None:
        """Disarm everything, and forget what happened."""
        for path in self.directory.iterdir():
            path.unlink(missing_ok=True)


@contextmanager
def armed_faults() -> Iterator[ArmedFaults]:
    """Make an empty directory of faults, which workers of any user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    directory.chmod(0o777)
    try:
        yield ArmedFaults(directory)
    finally:
        shutil.rmtree(directory)
