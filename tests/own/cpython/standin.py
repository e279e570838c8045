"""Our executor instead of theirs: takes the arguments of pools, with the attributes that the tests read."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import ktask

# A pool has workers at once; ours has none before the daemon has sent one.
_PATIENCE_S = 30.0


class Worker:
    """A worker of the executor, in the form of a multiprocessing.Process."""

    def __init__(self, executor: Ours, pid: int) -> None:
        self._executor, self.pid = executor, pid

    def join(self) -> None:
        """Wait until it no longer serves the executor; its process belongs to the daemon."""
        end_s = time.monotonic() + _PATIENCE_S
        while self.pid in self._executor.pids():
            assert time.monotonic() < end_s, f"process {self.pid} still serves the executor"
            time.sleep(0.01)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Thread:
    """The thread that serves workers, which exists only while there are calls."""

    def __init__(self, executor: Ours) -> None:
        self._calls = executor._calls

    def join(self) -> None:
        self._calls.join()


class Queue:
    """The call queue of a process pool, for tests that wait for its thread; we have none."""

    def join_thread(self) -> None:
        pass


class Ours(ktask.Executor):
    """Use the daemon that KTASKD_SOCKET names."""

    def __init__(self, max_workers: int | None = None, *, mp_context: Any = None, **options: Any) -> None:
        super().__init__(max_workers, **options)
        self._call_queue = Queue()

    @property
    def _broken(self) -> bool:
        return self._failed is not None

    @property
    def _processes(self) -> dict[int, Worker]:
        return {pid: Worker(self, pid) for pid in self.pids()}

    @property
    def _executor_manager_thread(self) -> Thread:
        return Thread(self)

    @property
    def _threads(self) -> list[Thread]:
        return [Thread(self)]

    def pids(self) -> set[int]:
        """Process ids of the workers that serve it now."""
        with self._calls._lock:
            return {worker.pid for burst in self._calls._bursts for worker in burst.workers}


class Warm(Ours):
    """An executor whose first worker has connected, since those of a pool are there at once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.submit(abs, 0).result()
        while not self._calls._board.ready:
            time.sleep(0.001)
