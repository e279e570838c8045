"""Ctrl-C put off until a call in the main thread has come back.

The shortest way to make a call is in the thread that wants it. In the main
thread a signal's handler may raise there at any step, which gRPC does not
survive (`caller` says how). Where SIGINT has Python's own handler, and no other
signal any, that handler is replaced for the time of the call by one that only
makes the call come back.
"""

from __future__ import annotations

# The module below `signal`, without enums: those would cost more than all the rest here.
import _signal  # type: ignore[import-not-found]
import _thread
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

_SIGINT = int(signal.SIGINT)
_OTHERS = tuple(int(one) for one in signal.valid_signals() if one != _SIGINT)


def can_defer() -> bool:
    """Whether Ctrl-C is all that might raise in this thread, and the main one it is."""
    return (
        threading.current_thread() is threading.main_thread()
        and _signal.getsignal(_SIGINT) is signal.default_int_handler
        and not any(map(callable, map(_signal.getsignal, _OTHERS)))
    )


class Deferred:
    """A context in which Ctrl-C raises nothing. Where `can_defer` only.

    Attributes:
        count: how often it came.
    """

    def __init__(self, on_interrupt: Callable[[int], None]) -> None:
        """Have each Ctrl-C call `on_interrupt(count)`, in a thread of its own."""
        self._on_interrupt = on_interrupt
        self.count = 0

    def __enter__(self) -> Self:
        """Put off what comes from now on."""
        _signal.signal(_SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signal back; whoever entered looks at `count`."""
        _signal.signal(_SIGINT, signal.default_int_handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        # Runs between any two steps of the main thread, which may hold locks;
        # so it takes none, as threading.Thread would.
        self.count += 1
        _thread.start_new_thread(self._on_interrupt, (self.count,))
