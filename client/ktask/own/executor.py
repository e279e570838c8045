"""An executor as of concurrent.futures, whose workers are a daemon's."""

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
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from ktask.core import check_labels
from ktask.link.session import Session
from ktask.own.bursts import Burst, Call, CallFuture, Shared
from ktask.own.calls import CallServer
from ktask.own.initial import Initial, InitializerFailed
from ktask.v1 import code

if TYPE_CHECKING:
    from ktask.client import Client

Given = ParamSpec("Given")
Value = TypeVar("Value")


class Executor(Base):
    """Runs calls in workers of this user's daemon, on CPUs that nobody else wants.

    Takes the place of concurrent.futures.ProcessPoolExecutor, also in
    `asyncio.loop.run_in_executor` and `dask.compute(scheduler=...)`. Functions,
    arguments and results are pickled, functions without a module by value. Workers
    find modules and relative paths where this program does; they do not share its
    memory, and nothing that it has loaded. They are started with the first calls,
    kept between them, and let go a quarter of a second after the last one.

    How many calls run at one time the daemon decides, as for every job: at most
    `max_workers`, at least one. A worker that dies fails the one call that it had,
    with WorkerLost; so the executor is never broken. Where the daemon cannot be
    reached, or does not take the job, the calls that wait fail with KtaskError.

    Calls find the environment, the directory, the locale and the umask that the program has when
    the first of them begins; what they print, warn and log goes where the program's does. Where the
    program has another interpreter than the daemon, other options, or variables that are read only
    at the start (LD_*, PYTHONHASHSEED, OMP_*), each worker is started again with them first.

    A program that ends waits for its calls, as with other executors. Ctrl-C ends them. docs/executors.md has
    the differences from a pool of processes.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        target: str | os.PathLike[str] | None = None,
        client: Client | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            max_workers: most calls at one time; None = one for each CPU that this
                process may use.
            initializer, initargs: called in each worker before its first call. Where it raises,
                that call fails with InitializerFailed, and the executor takes no more.
            target: directory or socket of a daemon of this user; None = the
                per-user one, or else the embedded one, which is started.
            client: whose connection is used instead; it must not be closed before.
            labels: of the jobs that the calls are done by, as in `Client.run`.
        Raises:
            ImportError: cloudpickle is not installed.
        """
        import cloudpickle  # noqa: F401  # at once, and not with the first call

        count = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        if count < 1:
            raise ValueError(f"max_workers must be greater than 0, got {max_workers!r}")
        self._max_workers = count
        begin = partial(Burst, labels=check_labels(labels))
        self._down = False
        self._pid = os.getpid()
        self._failed: InitializerFailed | None = None
        self._initial = None if initializer is None else Initial(initializer, initargs)
        if client is not None:
            session = client._session
            self._calls = CallServer(lambda: session, count, lambda _: None, begin)
        else:
            self._calls = CallServer(partial(_connect, target), count, Session.close, begin)
        # Nobody can make a call any more; those that were made are done.
        weakref.finalize(self, self._calls.close).atexit = False

    def submit(
        self, fn: Callable[Given, Value], /, *args: Given.args, **kwargs: Given.kwargs
    ) -> Future[Value]:
        """Have a worker call `fn`; what cannot be pickled is told by the future.

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
        """Results of `fn` for each of the items, in their order; all are begun at once.

        Args:
            timeout: seconds from now after which waiting for a result raises TimeoutError.
            chunksize: items of one call, which then come and fail together.
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
        """A call of one function for each of the arguments."""
        shared = Shared(function) if self._initial is None else self._initial.before(function)
        futures: list[Future[Any]] = []
        for one in given:
            future: Future[Any] = CallFuture()
            if self._initial is not None:
                future.add_done_callback(self._note_failure)
            futures.append(future)
            self._pickle_and_submit(future, one, shared)
        return futures

    def _pickle_and_submit(self, future: Future[Any], given: Any, shared: Shared | None = None) -> None:
        """Have it done; what cannot be pickled is told by the future."""
        try:
            payload = code.dumps(given)
        except Exception as error:
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return
        self._calls.submit(Call(future, payload, shared))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: return when all calls are done.
            cancel_futures: cancel those that were not begun.
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
        """Take no more calls and end all that there are; does not wait.

        Calls that were not begun are cancelled, those that run fail with WorkerLost.
        """
        self._down = True
        self._calls.abort()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> Literal[False]:
        """Wait for all calls; after Ctrl-C end them instead, as it ends those of a pool of processes."""
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
            # As other pools do: nobody would wait for it any more.
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if os.getpid() != self._pid:
            raise RuntimeError("executor: made before this process was forked, wanted one made after it")


def _connect(target: str | os.PathLike[str] | None) -> Session:
    # Only now: who imports the executor need not have loaded all of the client.
    from ktask.client import open_session

    return open_session(target, own=True)


def _results(futures: list[Future[Value]], end_s: float | None) -> Iterator[Value]:
    """Results in order; those that nobody will ask for any more are cancelled."""
    try:
        futures.reverse()
        while futures:
            # Without a name for it: whoever has the result decides how long it lives.
            yield _result(futures.pop(), end_s)
    finally:
        for future in futures:
            future.cancel()


def _result(future: Future[Value], end_s: float | None) -> Value:
    try:
        return future.result(None if end_s is None else max(0.0, end_s - time.monotonic()))
    finally:
        future.cancel()
        del future  # an exception has this frame, and so would have itself


def _cut(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Pieces of `size` items each; the last may be shorter."""
    remaining = iter(items)
    while piece := tuple(itertools.islice(remaining, size)):
        yield piece


def _call_each(fn: Callable[..., Value], piece: tuple[tuple[Any, ...], ...]) -> list[Value]:
    """In a worker: the results of one piece."""
    return [fn(*given) for given in piece]
