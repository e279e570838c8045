"""Delays Ctrl-C until a call in the main thread has returned.

The fastest way to make a call is in the thread that needs it. In the main thread,
though, a signal handler may raise at any step, which gRPC does not survive
(`caller` explains why). If SIGINT has Python's own handler and no other signal has
a handler, SIGINT's handler is replaced during the call by one that only makes the
call return.
"""

from __future__ import annotations

# Used instead of `signal`, whose enums would cost more time than everything else here.
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
    """Whether this is the main thread, and no signal but Ctrl-C might raise in it."""
    return (
        threading.current_thread() is threading.main_thread()
        and _signal.getsignal(_SIGINT) is signal.default_int_handler
        and not any(map(callable, map(_signal.getsignal, _OTHERS)))
    )


class Deferred:
    """A context in which Ctrl-C raises nothing. Use it only if `can_defer`.

    Attributes:
        count: how often Ctrl-C came.
    """

    def __init__(self, on_interrupt: Callable[[int], None]) -> None:
        """Have each Ctrl-C call `on_interrupt(count)`, in a thread of its own."""
        self._on_interrupt = on_interrupt
        self.count = 0

    def __enter__(self) -> Self:
        """Count interrupts from now on."""
        _signal.signal(_SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handler; the caller then looks at `count`."""
        _signal.signal(_SIGINT, signal.default_int_handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        # Runs between any two steps of the main thread, which may hold locks. So it
        # takes none, which threading.Thread would.
        self.count += 1
        _thread.start_new_thread(self._on_interrupt, (self.count,))
