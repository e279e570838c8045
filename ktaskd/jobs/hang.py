"""Finds workers that use CPU time without making progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ktaskd.jobs.ports import Worker


@dataclass(slots=True)
class _Sight:
    """A worker when it was first seen with this count of quanta."""

    seq: int
    beats: int
    cpu_s: float


class HangWatch:
    """Finds busy workers that have used too much CPU time without finishing a quantum.

    Measured in the worker's own CPU time. A starved worker uses none, so it never counts
    as hanging. Neither does a worker that sleeps; it is found when its job is cancelled. Reads no clock.
    """

    def __init__(self, limit_s: float, read_cpu_s: Callable[[int], float]) -> None:
        """Start without workers.

        Args:
            limit_s: CPU seconds without a quantum; 0 = no limit.
            read_cpu_s: CPU seconds of a process so far, by pid.
        """
        self.limit_s = limit_s
        self._read_cpu_s = read_cpu_s
        self._seen: dict[Worker, _Sight] = {}

    def look(self, busy: Iterable[Worker]) -> list[Worker]:
        """Note the progress of the busy workers; return those that hang."""
        busy = {worker for worker in busy if worker.pid}  # a worker that is being started has no pid yet
        for worker in [worker for worker in self._seen if worker not in busy]:
            del self._seen[worker]
        return [worker for worker in busy if self._hangs(worker)] if self.limit_s else []

    def _hangs(self, worker: Worker) -> bool:
        seq, _ = worker.position
        cpu_s = self._read_cpu_s(worker.pid)
        sight = self._seen.get(worker)
        if sight is None or (sight.seq, sight.beats) != (seq, worker.beats):
            self._seen[worker] = _Sight(seq, worker.beats, cpu_s)
            return False
        return cpu_s - sight.cpu_s >= self.limit_s
