"""Announces the end of the program to threads that the program waits for."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import weakref
from typing import Protocol


class Listener(Protocol):
    """An object to notify before the program waits for its threads."""

    def end_soon(self) -> None:
        """The main thread has ended, and now waits for all threads but daemon threads."""


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
_begun = threading.Event()


def register(listener: Listener) -> None:
    """Call `listener.end_soon` at the end of the program; the listener is held weakly."""
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


# An ordinary atexit handler runs too late, after the program has waited for the threads. CPython's own
# executors use this function; it raises RuntimeError if the end has begun already.
with contextlib.suppress(RuntimeError):
    getattr(threading, "_register_atexit", atexit.register)(_begin)
