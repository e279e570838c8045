"""An executor like those of concurrent.futures, with a daemon's workers."""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor as Base
from concurrent.futures import Future
from functools import partial
from typing import Any, Literal, ParamSpec, Protocol, TypeVar

from ktask.core import check_labels
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.own.bursts import Burst
from ktask.own.calls import CallServer
from ktask.own.futures import Call, CallFuture, Shared
from ktask.own.initial import Initial, InitializerFailed
from ktask.v1 import parcels

Given = ParamSpec("Given")
Value = TypeVar("Value")


class Connected(Protocol):
    """A `ktask.Client`, as far as an executor needs one."""

    _session: Session


class Executor(Base):
    """Runs calls in workers of this user's daemon, on CPUs that nobody else wants.

    Can replace concurrent.futures.ProcessPoolExecutor, also in `asyncio.loop.run_in_executor`
    and `dask.compute(scheduler=...)`. Functions, arguments and results are pickled; functions
    without a module are pickled by value. Workers find modules and relative paths where this
    program does. They share neither its memory nor the modules that it has loaded. They start
    with the first calls, and are kept for a minute after the last one.

    The daemon decides how many calls run at the same time, as for every job: at least one and at
    most `max_workers`. When a worker dies, only the call that it had fails, with WorkerLost, and
    the executor stays usable. If the daemon cannot be reached, or refuses the job, the waiting
    calls fail with KtaskError.

    Calls find the environment, directory, locale and umask that the program has when the first of
    them begins. Their prints, warnings and log records go where the program's go. If the program
    has another interpreter than the daemon, other options, or variables that are read only at the
    start (LD_*, PYTHONHASHSEED, OMP_*), each worker first starts again with them.

    A program that ends waits for its calls, as with other executors; Ctrl-C ends them.
    docs/executors.md lists the differences from a pool of processes.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        target: str | os.PathLike[str] | None = None,
        client: Connected | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to no daemon yet.

        Args:
            max_workers: most calls at the same time; None = one for each CPU that this
                process may use.
            initializer, initargs: called in each worker before its first call. If it raises,
                that call fails with InitializerFailed, and the executor takes no more calls.
            target: directory or socket of a daemon of this user; None = the
                per-user one, or else the embedded one, which is started.
            client: use its connection instead; do not close it before the executor.
            labels: labels of the jobs that run the calls, as in `Client.run`.
        Raises:
            ImportError: cloudpickle is not installed.
        """
        import cloudpickle  # noqa: F401  # fails here and not with the first call

        count = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        if count < 1:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers!r}")
        self._max_workers = count
        begin = partial(Burst, labels=check_labels(labels))
        self._store = parcels.Store()
        self._down = False
        self._pid = os.getpid()
        self._failed: InitializerFailed | None = None
        self._initial = None if initializer is None else Initial(initializer, initargs)
        if client is not None:
            session = client._session
            self._calls = CallServer(lambda: session, count, lambda _: None, begin)
        else:
            self._calls = CallServer(partial(open_session, target, own=True), count, Session.close, begin)
        # Without the executor no call can be made any more; earlier ones still finish.
        weakref.finalize(self, self._calls.close).atexit = False

    def submit(
        self, fn: Callable[Given, Value], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Value]:
        """Have a worker call `fn`; if pickling fails, the future has the error.

        Raises:
            RuntimeError: after `shutdown`.
        """
        self._check_up()
        future: Future[Value] = CallFuture()
        if self._initial is None:
            self._pickle_and_submit(future, (fn, args, kwargs))
        else:
            future.add_done_callback(self._note_failure)
            self._pickle_and_submit(future, (fn, args, kwargs), self._initial.before_any())
        return future

    def map(
        self,
        fn: Callable[..., Value],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Value]:
        """Results of `fn` for each of the items, in their order; all calls are queued at once.

        Args:
            timeout: seconds from now after which waiting for a result raises TimeoutError.
            chunksize: items in one call; their results arrive and fail together.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize: got {chunksize!r}, wanted at least 1")
        self._check_up()
        end_s = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        if chunksize == 1:
            return _results(self._submit_all(fn, items), end_s)
        pieces = ((piece,) for piece in _cut(items, chunksize))
        return itertools.chain.from_iterable(
            _results(self._submit_all(partial(_call_each, fn), pieces), end_s)
        )

    def _submit_all(
        self, function: Callable[..., Any], given: Iterable[tuple[Any, ...]]
    ) -> list[Future[Any]]:
        """Submit a call of one function for each tuple of arguments."""
        shared = Shared(function) if self._initial is None else self._initial.before(function)
        futures: list[Future[Any]] = []
        for one in given:
            future: Future[Any] = CallFuture()
            if self._initial is not None:
                future.add_done_callback(self._note_failure)
            futures.append(future)
            self._pickle_and_submit(future, one, shared, is_ours=True)
        return futures

    def _pickle_and_submit(
        self, future: Future[Any], given: Any, shared: Shared | None = None, *, is_ours: bool = False
    ) -> None:
        """Submit one call; if pickling fails, the future has the error."""
        try:
            payload = parcels.dump(given, self._store)
        except Exception as error:
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return
        self._calls.submit(Call(future, payload, shared, is_ours=is_ours))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls are done.
            cancel_futures: cancel calls that have not begun.
        """
        self._down = True
        self._calls.close(cancel=cancel_futures)
        if wait:
            self._calls.join()

    @property
    def is_down(self) -> bool:
        """Whether it takes no more calls."""
        return self._down

    def abort(self) -> None:
        """Take no more calls and end all calls, without waiting for that.

        Calls that have not begun are cancelled; running calls fail with WorkerLost.
        """
        self._down = True
        self._calls.abort()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> Literal[False]:
        """Wait for all calls; after Ctrl-C end them instead, as a pool of processes does."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.abort()
        self.shutdown()
        return False

    def _note_failure(self, future: Future[Any]) -> None:
        if not future.cancelled() and isinstance(error := future.exception(), InitializerFailed):
            self._failed = error

    def _check_up(self) -> None:
        if self._failed is not None:
            raise InitializerFailed(self._failed.message)
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if not threading.main_thread().is_alive():
            # As other pools do: the program would not wait for the call any more.
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if os.getpid() != self._pid:
            raise RuntimeError("executor: made before this process was forked; make another one in the child")


def _results(futures: list[Future[Value]], end_s: float | None) -> Iterator[Value]:
    """Results in order; when the reader stops, the remaining calls are cancelled."""
    try:
        futures.reverse()
        while futures:
            # No variable here refers to the result, so that its reader decides how long it lives.
            yield _result(futures.pop(), end_s)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Value], end_s: float | None) -> Value:
    try:
        return future.result(None if end_s is None else max(0.0, end_s - time.monotonic()))
    finally:
        future.cancel()
        del future  # otherwise an exception would refer to itself, through this frame


def _cut(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Pieces of `size` items each; the last may be shorter."""
    remaining = iter(items)
    while piece := tuple(itertools.islice(remaining, size)):
        yield piece


def _call_each(fn: Callable[..., Value], piece: tuple[tuple[Any, ...], ...]) -> list[Value]:
    """In a worker: the results for one piece."""
    return [fn(*given) for given in piece]
