"""A backend for joblib: the calls of `joblib.Parallel` run in workers of this user's daemon.

    import joblib, ktask.joblib

    ktask.joblib.register()
    with joblib.parallel_config(backend="ktask", n_jobs=-1):
        ...

Importing this loads joblib, which ktask does not need itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, register_parallel_backend

from ktask.executor import Executor

NAME = "ktask"


def register(name: str = NAME) -> None:
    """Let joblib know the backend by this name."""
    register_parallel_backend(name, Backend)


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs batches of calls by an executor of its own for each run of Parallel.

    Arguments and results are pickled; joblib's mapping of large arrays into files is not used.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(self, *, target: str | os.PathLike[str] | None = None, **options: Any) -> None:
        """As joblib makes it; `target` is that of `Executor`."""
        super().__init__(**options)
        self._target = target
        self._executor: Executor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Calls at one time at most; below 0 as many less than there are CPUs, -1 being all."""
        if n_jobs == 0:
            raise ValueError("n_jobs: got 0, wanted another number")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(len(os.sched_getaffinity(0)) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Get ready for one run."""
        count = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        self._executor = Executor(count, target=self._target)
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Have one batch done."""
        assert self._executor is not None
        future = self._executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit
    """As older versions of joblib call it."""

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The result of a batch; raises what it raised."""
        return out.result()

    def terminate(self) -> None:
        """The run is over."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Begin nothing more of this run; what runs is not waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)
