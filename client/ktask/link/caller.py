"""Calls made by another thread, so that waiting for them can be interrupted safely.

Ctrl-C raises KeyboardInterrupt between any two steps of the main thread. gRPC
does not survive that: an interrupt while a call starts or ends leaves locks held
and calls open, and the program hangs at the latest when it exits. So other
threads make the main thread's calls, and it waits for their answers in a queue.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")

_LOOK_S = 0.2


def get(queue: SimpleQueue[Value | None], over: Callable[[], bool]) -> Value | None:
    """The next item of a queue; None once `over()` is true and nothing has come for a while.

    Wakes up in between, to handle signals and to ask `over`.
    """
    while True:
        try:
            return queue.get(timeout=_LOOK_S)
        except Empty:
            if over():
                return None


class Pending(Generic[Value]):
    """A call that another thread makes."""

    def __init__(self, function: Callable[[], Value]) -> None:
        """Prepare the call; `Caller.start` has it made."""
        self._function = function
        self._ended = False
        self._value: Value | None = None
        self._error: BaseException | None = None
        # The thread that pops it decides whether the call is made. A pop is atomic.
        self._claim = deque([True])
        # Wakes a waiter. `_ended` is what counts, since an interrupt cannot lose it.
        self._wake: SimpleQueue[None] = SimpleQueue()

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended

    def result(self) -> Value:
        """Wait for the call's value, or raise what it raised."""
        # Wakes up in between: a signal just before the wait begins does not interrupt it.
        while not self.wait(_LOOK_S):
            pass
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def wait(self, timeout_s: float) -> bool:
        """Whether the call ends within `timeout_s`."""
        with contextlib.suppress(Empty):
            if not self._ended:
                self._wake.get(timeout=timeout_s)
                self._wake.put(None)
        return self._ended

    def withdraw(self) -> bool:
        """Take the call back before it is made; False if it was begun already."""
        return self._take()

    def make(self) -> None:
        """Make the call, unless it was withdrawn; its value or exception is kept."""
        if not self._take():
            return
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        self._ended = True
        self._wake.put(None)

    def _take(self) -> bool:
        try:
            return self._claim.pop()
        except IndexError:
            return False


class Caller:
    """Threads that make calls, kept for the next one. Thread-safe."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._idle: deque[SimpleQueue[Pending[Any] | None]] = deque()
        self._closed = False

    def call(self, function: Callable[[], Value]) -> Value:
        """Return `function()`; in the main thread the wait for it can be interrupted.

        An interrupted call goes on in its own thread, and its result is lost.
        """
        if self._closed or threading.current_thread() is not threading.main_thread():
            return function()
        pending = Pending(function)
        self.start(pending)
        return pending.result()

    def start(self, pending: Pending[Any]) -> None:
        """Have another thread make a call.

        After an interrupt the call may have begun or not; `Pending.withdraw` finds out.
        """
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="ktask-call", daemon=True).start()
        inbox.put(pending)

    def close(self) -> None:
        """End the threads, each after its call."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().put(None)

    def _work(self, inbox: SimpleQueue[Pending[Any] | None]) -> None:
        while True:
            pending = inbox.get()
            if pending is None:
                return
            pending.make()
            # Keep nothing of this call alive while waiting for the next.
            del pending
            self._idle.append(inbox)
            if self._closed:
                self.close()
