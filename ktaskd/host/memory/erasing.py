"""Erase memory as soon as it is freed, so that a job never sees data of another user.

The interpreter keeps small objects in arenas of its own and the C library keeps the rest; neither
erases freed memory. With these two settings, which count from the start of a program, the C library
manages all of it and overwrites freed memory. That costs a little with every object, so it is done
only in a daemon that serves several users.

Source: mallopt(3), M_PERTURB; the GNU C library's manual on tunables (the cache of a thread is not
overwritten, so it is switched off); PYTHONMALLOC in Python's manual
"""

from __future__ import annotations

import ctypes

ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0",
}
"""Environment of a process that is exec'd; a fork inherits the settings."""

_PIECE = b"erased?."
_SIZES = (5, 30, 500)
"""In pieces: a small object, a larger one, and one too large for the arenas."""
_LINKS_BYTES = 64
"""The C library keeps its own data at the start of freed memory."""


def erases() -> bool:
    """Whether this process erases freed memory, found by reading some."""
    return not any(_stays(size) for size in _SIZES)


def _stays(size: int) -> bool:
    """Whether an object of this many pieces can still be read after it was freed."""
    made = _PIECE * size
    address = id(made)
    length = made.__sizeof__()
    del made
    # The memory is still mapped: an object this small is not returned to the kernel.
    return _PIECE in ctypes.string_at(address, length)[min(_LINKS_BYTES, length // 2) :]
