"""A backend for joblib: workers of this user's daemon run the calls of `joblib.Parallel`.

    import joblib, ktask.joblib

    ktask.joblib.register()
    with joblib.parallel_config(backend="ktask", n_jobs=-1):
        ...

Importing this module loads joblib, which the rest of ktask does not need.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pickle import PicklingError
from typing import Any

from joblib._parallel_backends import FallbackToBackend, SequentialBackend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, register_parallel_backend

from ktask.link.locate import VARIABLE
from ktask.own import mapped
from ktask.own.executor import Executor

NAME = "ktask"

_Made = tuple[object, ...]
"""The arguments of an executor; a later run with the same ones can reuse it."""


def register(name: str = NAME) -> None:
    """Register the backend with joblib under this name."""
    register_parallel_backend(name, Backend)


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs batches of calls in an executor that is kept from one run of Parallel to the next.

    Each run has an executor of its own, so that a run that fails or is abandoned ends only its own
    calls. As with joblib's own process backends, workers map large arrays from files (`mapped`), and
    with `n_jobs=1` the program itself makes the calls.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(self, *, target: str | os.PathLike[str] | None = None, **options: Any) -> None:
        """Called by joblib; `target` is that of `Executor`."""
        super().__init__(**options)
        self._target = target
        self._executor: Executor | None = None
        self._again: dict[str, Any] = {}
        self._made: _Made = ()
        self._mapped = mapped.Mapped({})
        self._environ: dict[str, str] = {}

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Most calls at the same time; -1 means one for each CPU, -2 one fewer, and so on."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(len(os.sched_getaffinity(0)) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        **options: Any,
    ) -> int:
        """Prepare one run; reuses the workers of an earlier run with the same arguments."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._again = options
        options = {**self.backend_kwargs, **options}
        self._mapped = mapped.Mapped(options)
        self._environ = self._prepare_worker_env(n_jobs=count)
        self._made, self._executor = self._taken(count, **options)
        return count

    def _taken(
        self,
        count: int,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        **_: Any,
    ) -> tuple[_Made, Executor]:
        made = os.getpid(), count, self._target, os.environ.get(VARIABLE), initializer, initargs
        return made, _take(made) or Executor(
            count, initializer=initializer, initargs=initargs, target=self._target
        )

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Have a worker run one batch."""
        assert self._executor is not None
        future = self._submit_mapped(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _submit_mapped(self, func: Callable[[], Any]) -> Future[Any]:
        assert self._executor is not None
        try:
            task = self._mapped.task(func)
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(_unpicklable(error))
            return failed
        return self._executor.submit(mapped.run, *task, self._environ, self.inner_max_num_threads)

    apply_async = submit
    """The name in older versions of joblib."""

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the result of a batch; raises what the batch raised."""
        return mapped.loaded(out.result())

    def terminate(self) -> None:
        """End the run; its workers are kept for the next one for a while."""
        if self._executor is not None:
            _keep(self._executor, self._made)
            self._executor = None
            self._mapped.close()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End all calls of this run, without waiting for that."""
        if self._executor is not None:
            self._executor.abort()
            self._executor = None
            self._mapped.close()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self._again)


def _unpicklable(error: Exception) -> PicklingError:
    failed = PicklingError("Could not pickle the task to send it to the workers.")
    failed.__cause__ = error
    return failed


_KEPT_MAX = 4

_IDLE: dict[Executor, _Made] = {}
"""Executors that no run uses, the most recent one last; their workers stay for a while."""

_LOCK = threading.Lock()


def _is_same(made: _Made, other: _Made) -> bool:
    try:
        return made == other
    except Exception:  # whatever comparing initargs raises, as for arrays
        return False


def _take(made: _Made) -> Executor | None:
    """Remove an executor of an earlier run from _IDLE and return it; None if there is none."""
    with _LOCK:
        for executor in [one for one, known in _IDLE.items() if _is_same(known, made)]:
            del _IDLE[executor]
            if not executor.is_down:
                return executor
    return None


def _keep(executor: Executor, made: _Made) -> None:
    with _LOCK:
        _IDLE[executor] = made
        left = list(_IDLE)[:-_KEPT_MAX]
        for one in left:
            del _IDLE[one]
    for one in left:
        one.shutdown(wait=False)


def _forget() -> None:
    """In a forked child: forget the executors, whose threads are gone."""
    global _LOCK
    _IDLE.clear()
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_forget)
