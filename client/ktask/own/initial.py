"""The initializer of an executor: what each worker calls before its first call."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from ktask.errors import KtaskError
from ktask.own.futures import Shared

_log = logging.getLogger("concurrent.futures")

_DONE: set[str] = set()
"""In a worker: names of the initializers that were called here."""


class InitializerFailed(KtaskError, BrokenProcessPool):
    """The initializer of an executor raised in a worker; the executor takes no more calls."""


@dataclass(frozen=True)
class Initial:
    """An initializer with its arguments.

    Args:
        name: by it a worker knows whether it has called the initializer.
    """

    initializer: Callable[..., object]
    initargs: tuple[Any, ...]
    name: str = field(default_factory=lambda: secrets.token_hex(8))

    def before(self, function: Callable[..., Any]) -> Shared:
        """Return `function` for workers, preceded in each by the initializer."""
        return Shared(partial(_called, self.name, self.initializer, self.initargs, function))

    def before_any(self) -> Shared:
        """Return the same for calls that each send a function; its arguments are those of `_call`."""
        return self._any

    @cached_property
    def _any(self) -> Shared:
        return self.before(_call)


def _call(function: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    return function(*given, **named)


def _called(
    name: str, initializer: Callable[..., object], initargs: tuple[Any, ...], function: Any, *given: Any
) -> Any:
    """In a worker: call the initializer unless that was done, then the function."""
    if name not in _DONE:
        try:
            initializer(*initargs)
        except Exception as error:
            # Logged as by a pool of processes: the exception of the call may never be shown.
            _log.critical("Exception in initializer:", exc_info=True)
            words = f"initializer: raised {type(error).__name__}: {error}"
            raise InitializerFailed(words, reason="INITIALIZER_FAILED") from error
        _DONE.add(name)
    return function(*given)
