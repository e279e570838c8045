"""Measures the steps of a handler and gives them turns, so that no handler can hold the loop.

A step is the part of a coroutine between two awaits. Each is charged to the
caller, and begins only when it is the caller's turn.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from ktaskd.door.admission.turns import User

ResultT = TypeVar("ResultT")


class Pace:
    """The pace of one call.

    Attributes:
        hurried: steps need no turn now, since a time limit is running.
    """

    __slots__ = ("hurried", "user")

    def __init__(self, user: User) -> None:
        """Every step needs a turn."""
        self.user = user
        self.hurried = False


class Paced(Awaitable[ResultT], Generic[ResultT]):
    """Awaits a coroutine, step by step.

    A cancellation and any other error reach the coroutine at once, so that nothing delays
    its cleanup.
    """

    __slots__ = ("_coroutine", "_pace")

    def __init__(self, coroutine: Coroutine[Any, Any, ResultT], pace: Pace) -> None:
        """Nothing runs yet."""
        self._coroutine = coroutine
        self._pace = pace

    def __await__(self) -> Generator[Any, None, ResultT]:
        """Run all steps."""
        error: BaseException | None = None
        while True:
            if error is None:
                error = yield from self._wait()
            begin_s = time.thread_time()
            try:
                awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as stop:
                result: ResultT = stop.value
                return result
            finally:
                self._pace.user.charge(time.thread_time() - begin_s)
            error = yield from _passed_on(awaited)

    def _wait(self) -> Generator[Any, None, BaseException | None]:
        """Wait for the caller's turn; return the error that came instead."""
        if self._pace.hurried or self._pace.user.take_turn():
            return None
        try:
            yield from self._pace.user.turn().__await__()
        except BaseException as error:
            return error
        return None


def _passed_on(awaited: Any) -> Generator[Any, None, BaseException | None]:
    """Wait as the coroutine would; return the error that came."""
    try:
        yield awaited
    except BaseException as error:
        return error
    return None
