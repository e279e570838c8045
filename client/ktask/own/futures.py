"""One call of an executor, and the future of whoever waits for it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from ktask.errors import KtaskError
from ktask.v1 import calls as wire
from ktask.v1 import code, parcels
from ktask.v1.parcels import Parcel

Value = TypeVar("Value")

_log = logging.getLogger("concurrent.futures")


class WorkerLost(KtaskError, BrokenProcessPool):
    """The worker of a call ended before it had answered; other calls are not affected.

    It is a BrokenProcessPool, so that programs that were written for a pool of processes catch it.
    """


class CallFuture(Future[Value]):
    """A future whose callbacks end no thread of the executor, whatever they raise."""

    def add_done_callback(self, fn: Callable[[Future[Value]], object]) -> None:
        """Call `fn` when the call has ended; if it has ended already, at once and unprotected."""
        super().add_done_callback(fn if self.done() else partial(_call_back, fn))


def _call_back(fn: Callable[[Future[Any]], object], future: Future[Any]) -> None:
    try:
        fn(future)
    except Exception:
        raise  # concurrent.futures logs it and goes on with the other callbacks
    except BaseException:
        # SystemExit and the like are meant for the program, and all calls share this thread.
        _log.exception("exception calling callback for %r", future)


class Shared:
    """A function that several calls share, and that each worker is sent once."""

    _numbers = itertools.count(1)

    def __init__(self, function: Callable[..., Any]) -> None:
        """Pickle it; raises what pickling raises."""
        self.pickled = parcels.dump(function)
        self.number = next(self._numbers)


class Call:
    """One call and its future.

    Args:
        payload: function, arguments and keyword arguments, pickled; with `function` only the
            arguments.
    """

    __slots__ = ("function", "future", "number", "payload")

    def __init__(self, future: Future[Any], payload: Parcel, function: Shared | None = None) -> None:
        """The call gets its number when it is queued."""
        self.future, self.payload, self.function = future, payload, function
        self.number = 0

    def settle(self, kind: int, payload: Parcel) -> None:
        """Set the future's result or exception from a worker's RESULT or RAISED frame."""
        if kind == wire.RAISED:
            self.future.set_exception(code.load_exception(payload.inline))
            return
        try:
            value = payload.load()
        except BaseException as error:  # SystemExit too: all calls share this thread
            self.future.set_exception(error)
            return
        self.future.set_result(value)

    def lose(self, pid: int) -> None:
        """Fail the call because its worker, process `pid`, has ended."""
        words = f"call: its worker (process {pid}) ended before it had answered"
        self.future.set_exception(WorkerLost(words, reason="WORKER_LOST"))

    def fail(self, error: BaseException) -> None:
        """Fail a call that no worker has, unless it was cancelled."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def cancel(self) -> None:
        """Cancel a call that no worker has."""
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
