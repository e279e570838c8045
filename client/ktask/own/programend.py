"""The end of a program, for threads that it waits for."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import weakref
from typing import Protocol


class Listener(Protocol):
    """What wants to know of the end before it is waited for."""

    def end_soon(self) -> None:
        """The main thread has ended; it waits for all threads that are no daemons."""


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
_begun = threading.Event()


def tell(listener: Listener) -> None:
    """Have it told, for as long as somebody else holds it."""
    _listeners.add(listener)


def has_begun() -> bool:
    """Whether the main thread has ended."""
    return _begun.is_set() or not threading.main_thread().is_alive()


def is_interrupted() -> bool:
    """Whether Ctrl-C has ended the main thread, which now waits only for other threads."""
    ended = not threading.main_thread().is_alive()
    return ended and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


def _begin() -> None:
    _begun.set()
    for listener in list(_listeners):
        listener.end_soon()


# An ordinary atexit handler comes too late, after the threads were waited for. CPython's own
# executors use this function; it refuses where that has begun already.
with contextlib.suppress(RuntimeError):
    getattr(threading, "_register_atexit", atexit.register)(_begin)
