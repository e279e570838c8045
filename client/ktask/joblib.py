"""A backend for joblib: the calls of `joblib.Parallel` run in workers of this user's daemon.

    import joblib, ktask.joblib

    ktask.joblib.register()
    with joblib.parallel_config(backend="ktask", n_jobs=-1):
        ...

Importing this loads joblib, which ktask does not need itself.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
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
    """Runs batches of calls by an executor that is kept from one run of Parallel to the next.

    Arguments and results are pickled; joblib's mapping of large arrays into files is not used.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True

    def __init__(self, *, target: str | os.PathLike[str] | None = None, **options: Any) -> None:
        """As joblib makes it; `target` is that of `Executor`."""
        super().__init__(**options)
        self._target = target
        self._executor: Executor | None = None
        self._futures: set[Future[Any]] = set()
        self._again: dict[str, Any] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Calls at one time at most; below 0 as many less than there are CPUs, -1 being all."""
        if n_jobs == 0:
            raise ValueError("n_jobs: got 0, wanted another number")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(len(os.sched_getaffinity(0)) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> int:
        """Get ready for one run; the workers of the last one are taken where they would be the same."""
        count = self.effective_n_jobs(n_jobs)
        self.parallel = parallel
        self._again = {"initializer": initializer, "initargs": initargs}
        self._executor = _take(count, self._target, initializer, initargs)
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Have one batch done."""
        assert self._executor is not None
        future = self._executor.submit(func)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit
    """As older versions of joblib call it."""

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The result of a batch; raises what it raised."""
        return out.result()

    def terminate(self) -> None:
        """The run is over; its workers are kept for the next one for a while."""
        if self._executor is not None:
            _give_back(self._executor)
            self._executor = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End all that this run has begun; nothing of it is waited for."""
        if self._executor is not None:
            if _USES[self._executor] == 1:
                self._executor.abort()
            else:  # another run has calls there
                for future in list(self._futures):
                    future.cancel()
            _give_back(self._executor)
            self._executor = None
        self._futures.clear()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self._again)


_USES: Counter[Executor] = Counter()
"""Executors and the runs that use them now; the one of the last run may have none."""

_MADE_FROM: dict[Executor, tuple[object, ...]] = {}

_LOCK = threading.Lock()


def _take(
    count: int,
    target: str | os.PathLike[str] | None,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Executor:
    """Return an executor for one run: the one of an earlier run, unless that has an initializer."""
    made_from = (os.getpid(), count, target)
    with _LOCK:
        found = [one for one, known in _MADE_FROM.items() if known == made_from and initializer is None]
        if found and not found[0].is_down:
            executor = found[0]
        else:
            executor = Executor(count, initializer=initializer, initargs=initargs, target=target)
            if initializer is None:
                _MADE_FROM[executor] = made_from
        _USES[executor] += 1
        _let_go_unused(executor)
    return executor


def _give_back(executor: Executor) -> None:
    with _LOCK:
        _USES[executor] -= 1
        if executor.is_down or executor not in _MADE_FROM:
            _let_go_unused(None)


def _let_go_unused(kept: Executor | None) -> None:
    for executor in [one for one, uses in _USES.items() if uses <= 0 and one is not kept]:
        del _USES[executor]
        _MADE_FROM.pop(executor, None)
        executor.shutdown(wait=False)
