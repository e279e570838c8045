"""Calls that a thread waits for in a place where it may be interrupted.

Ctrl-C raises KeyboardInterrupt in the main thread, between any two steps of
what that does. gRPC does not survive this: interrupted while it starts or ends
a call it is left with locks held and calls that nobody ends, and the program
hangs at the latest when it exits. So the main thread's calls are made by
threads of their own, and it waits for their answers in a queue.
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
    """The next of a queue; None when `over()` and nothing came for a while.

    Looks up in between, for signals and for `over`.
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
        """Nothing happens before `Caller.start`."""
        self._function = function
        self._ended = False
        self._value: Value | None = None
        self._error: BaseException | None = None
        # Whoever takes it decides whether the call is made: its pop is atomic.
        self._turn = deque([True])
        # Wakes a waiter. What counts is `_ended`, which an interrupt cannot lose.
        self._wake: SimpleQueue[None] = SimpleQueue()

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended

    def result(self) -> Value:
        """Wait for the call's value, or raise what it raised."""
        # Looks up in between, since a signal that comes just before the wait
        # begins does not interrupt it.
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
        """Have the call not made; False if it was begun already."""
        return self._take_turn()

    def make(self) -> None:
        """Make the call, unless it was withdrawn; its value or exception is kept."""
        if not self._take_turn():
            return
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
        self._ended = True
        self._wake.put(None)

    def _take_turn(self) -> bool:
        try:
            return self._turn.pop()
        except IndexError:
            return False


class Caller:
    """Threads that make calls, kept for the next one. Thread-safe."""

    def __init__(self) -> None:
        """Start none yet."""
        self._idle: deque[SimpleQueue[Pending[Any] | None]] = deque()
        self._closed = False

    def call(self, function: Callable[[], Value]) -> Value:
        """`function()`, whose waiting may be interrupted in the main thread.

        What was interrupted goes on by itself, and nobody hears of its end.
        """
        if self._closed or threading.current_thread() is not threading.main_thread():
            return function()
        pending = Pending(function)
        self.start(pending)
        return pending.result()

    def start(self, pending: Pending[Any]) -> None:
        """Have another thread make a call.

        Interrupted, it may have been begun or not: `Pending.withdraw` tells.
        """
        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="ktask-call", daemon=True).start()
        inbox.put(pending)

    def close(self) -> None:
        """Have the threads end, each after its call."""
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
            # Holds on to nothing of the last call while it waits for the next.
            del pending
            self._idle.append(inbox)
            if self._closed:
                self.close()
