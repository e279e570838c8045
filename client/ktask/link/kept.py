"""Handles that are kept for objects of other types than the library's: a memfd in a file object, for example.

Such an object does not report its close. So only memory without a name is kept, which keeps no file system
busy, and what was closed or collected is noticed with the next job.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OBJECTS_MAX = 16
"""Most objects that are kept. None gives way to another one, since a job may be about to name its handle."""

Identity = tuple[int, ...]
"""Tells whether a descriptor is still open on the same memory, in the same way."""


@dataclass(frozen=True, slots=True)
class _Kept:
    reference: weakref.ref[Any]
    identity: Identity
    handle: str
    gone: weakref.finalize[..., Any]


def identity_of(fd: int) -> Identity | None:
    """The identity of memory that has no name; None for anything else."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        found = os.fstat(fd)
        if not found.st_nlink:
            return fd, found.st_dev, found.st_ino, fcntl.fcntl(fd, fcntl.F_GETFL)
    return None


class KeptObjects:
    """Handles by object: by the very object, not by one that is equal or has its id or its descriptor now."""

    def __init__(self) -> None:
        """Keep nothing."""
        self._by_id: dict[int, _Kept] = {}
        self._stale: list[str] = []

    def find(self, source: Any, identity: Identity) -> str | None:
        """The handle of an object whose descriptor has this identity now; None = hand it over."""
        kept = self._by_id.get(id(source))
        if kept is None:
            return None
        if kept.reference() is source and kept.identity == identity:
            return kept.handle
        self._drop(id(source))
        return None

    @property
    def is_full(self) -> bool:
        """Whether no other object can be kept now."""
        self._drop_closed()
        return len(self._by_id) >= OBJECTS_MAX

    def add(self, source: Any, identity: Identity, handle: str, on_gone: Callable[[], object]) -> None:
        """Keep a handle; `on_gone` is called when the object is collected while it is kept."""
        gone = weakref.finalize(source, on_gone)
        gone.atexit = False
        self._by_id[id(source)] = _Kept(weakref.ref(source), identity, handle, gone)

    def take_stale(self) -> list[str]:
        """Forget objects that are closed, and return the handles to give back."""
        self._drop_closed()
        stale, self._stale = self._stale, []
        return stale

    def clear(self) -> None:
        """Forget all: their handles have ended."""
        for kept in self._by_id.values():
            kept.gone.detach()
        self._by_id.clear()
        self._stale.clear()

    def _drop_closed(self) -> None:
        for key, kept in list(self._by_id.items()):
            source = kept.reference()
            if source is None or getattr(source, "closed", False) is True:
                self._drop(key)

    def _drop(self, key: int) -> None:
        kept = self._by_id.pop(key)
        # An object that was collected has given its handle back.
        if kept.gone.detach() is not None:
            self._stale.append(kept.handle)


def may_be_kept(source: Any) -> bool:
    """Whether the end of an object can be noticed."""
    try:
        weakref.ref(source)
    except TypeError:
        return False
    return True
