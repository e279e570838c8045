"""One call of an executor, and the future of whoever waits for it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeVar

from ktask.errors import KtaskError
from ktask.v1 import calls as wire
from ktask.v1 import code, parcels
from ktask.v1.parcels import Parcel

Value = TypeVar("Value")

_AHEAD_BYTES = 1024
"""Longer calls are not sent ahead, so that what was sent ahead fits into the socket's buffer."""

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
        is_ours: nobody but the executor has the future.
    """

    __slots__ = ("_has_begun", "function", "future", "is_ours", "number", "payload")

    def __init__(
        self, future: Future[Any], payload: Parcel, function: Shared | None = None, *, is_ours: bool = False
    ) -> None:
        """The call gets its number when it is queued."""
        self.future, self.payload, self.function, self.is_ours = future, payload, function, is_ours
        self.number = 0
        self._has_begun = False

    @property
    def may_go_ahead(self) -> bool:
        """Whether a worker may get it before it asks: its future then counts as running."""
        return self.is_ours and not self.payload.table and len(self.payload.inline) < _AHEAD_BYTES

    def begin(self) -> bool:
        """Have the future count as running; False if it was cancelled."""
        self._has_begun = self._has_begun or self.future.set_running_or_notify_cancel()
        return self._has_begun

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
        if self.begin():
            self.future.set_exception(error)

    def cancel(self) -> None:
        """Cancel a call that no worker has."""
        if self._has_begun:  # it was sent ahead, and came back
            self.future.set_exception(CancelledError())
            return
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
