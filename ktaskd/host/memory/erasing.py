"""Freed memory that is erased at once, so that no user's data is left in what another one's job gets.

The interpreter keeps small objects in arenas of its own and the C library keeps
the rest; neither erases what is freed. With these two settings, which count from
the start of a program on, all of it is the C library's, which fills what is freed.
It costs a little with every object, so it is done only where several users are served.

Source: mallopt(3), M_PERTURB; the GNU C library's manual on tunables, where what is
in a thread's cache is not filled, so there is none; PYTHONMALLOC in Python's manual
"""

from __future__ import annotations

import ctypes

ENVIRONMENT = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0",
}
"""For whoever is exec'd; a fork inherits it."""

_PIECE = b"erased?."
_SIZES = (5, 30, 500)
"""Pieces: a small object, a larger one, and one that the arenas never had."""
_LINKS_BYTES = 64
"""At the start of what is freed the C library keeps its own numbers."""


def erases() -> bool:
    """Whether this process erases what it frees: it is looked at, not asked."""
    return not any(_stays(size) for size in _SIZES)


def _stays(size: int) -> bool:
    """Whether an object of so many pieces can be read after it was freed."""
    made = _PIECE * size
    address = id(made)
    length = made.__sizeof__()
    del made
    # The memory is still mapped: it is far below what would be given back.
    return _PIECE in ctypes.string_at(address, length)[min(_LINKS_BYTES, length // 2) :]
