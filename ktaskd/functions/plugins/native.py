"""A body that calls an administrator's library, in the way that ktask called thread functions.

Source: struct ktask_ctl of ktask v4 (Documentation/core-api/ktask.rst)
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ktaskd.functions.body import Body, Context, Control, Guarded, Json
from ktaskd.functions.transfer import require_size
from ktaskd.model.function import Access, Declaration, Native

_Call = Callable[[int, int, bytes | None], int]
_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, use_errno=False)
_UNDO = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, use_errno=False)


class NativeBody(Body):
    """The body of one native function. The library is loaded at the first call.

    Args:
        fd: the library that the daemon has checked; its path may lead to another file by now.
    """

    def __init__(self, declaration: Declaration, fd: int) -> None:
        """Keep them; the caller still owns the descriptor."""
        self._path = f"/proc/self/fd/{fd}"
        assert declaration.native is not None
        self._declaration = declaration
        self._native: Native = declaration.native
        self._library: ctypes.CDLL | None = None
        self.quantum = declaration.min_chunk

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Call the function for [start, end), in pieces of the smallest chunk.

        The chunk can be recalled between two calls. A call that fails has put back its own
        changes; those of the calls before it are undone, or dirty.
        """
        call: _Call = self._symbol(self._native.symbol, _FUNCTION)
        with self._mapped(context, start, end) as mapping:
            for first, after in self._pieces(start, end):
                if control.quantum(first):
                    return first, None
                number = call(mapping.address(first), mapping.address(after), _data(context))
                if number:
                    control.quantum(first)
                    raise _returned(self._declaration.name, number)
        return end, None

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Call the undo, which cannot fail."""
        call: _Call = self._symbol(self._native.undo, _UNDO)
        with self._mapped(context, start, end) as mapping:
            for first, after in self._pieces(start, end):
                call(mapping.address(first), mapping.address(after), _data(context))
                control.quantum(after)
        return []

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        step = self._declaration.min_chunk
        while start < end:
            after = min(end, start - start % step + step)
            yield start, after
            start = after

    @contextmanager
    def _mapped(self, context: Context, start: int, end: int) -> Iterator[Guarded]:
        """Map the chunk alone, so that a write beyond its pages hits no other data."""
        (role,) = self._declaration.sources
        source = context.sources[role.role]
        require_size(source, role.role, end)
        mapping = source.guarded(start, end, write=Access.WRITE in role.access)
        try:
            yield mapping
        finally:
            mapping.close()

    def _symbol(self, name: str, kind: Callable[[tuple[str, ctypes.CDLL]], _Call]) -> _Call:
        try:
            if self._library is None:
                self._library = ctypes.CDLL(self._path)
            return kind((name, self._library))
        except (OSError, AttributeError) as error:
            why = str(error).replace(self._path, self._native.library)
            words = f"function {self._declaration.name!r}: cannot be loaded: {why}"
            raise OSError(errno.ELIBACC, words) from error


def _data(context: Context) -> bytes | None:
    """The bytes that arg points to; NULL if the argument is empty."""
    text = str(context.arg["data"])
    return text.encode() if text else None


def _returned(name: str, number: int) -> OSError:
    """The error for a returned number, which may be an errno of either sign."""
    known = abs(number) if abs(number) in errno.errorcode else 0
    words = f" ({os.strerror(known)})" if known else ""
    return OSError(known or errno.EIO, f"function {name!r}: returned {number}{words}")
