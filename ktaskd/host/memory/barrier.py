"""Order the accesses of several processes to words that they share.

A processor may carry out a write after the reads that follow it. Two processes that each write one word
and then read the other's may so both miss what the other has written. `order_all` makes each processor
that runs a registered process finish its writes first, which costs the other side nothing.

Source: membarrier(2)
"""

from __future__ import annotations

import ctypes

from ktaskd.host.libc import syscall

_GLOBAL_EXPEDITED, _REGISTER_GLOBAL_EXPEDITED = 1 << 1, 1 << 2
"""Source: linux/membarrier.h"""


def register() -> bool:
    """Let `order_all` of other processes have an effect on this one; return whether the kernel can."""
    try:
        _call(_REGISTER_GLOBAL_EXPEDITED)
    except OSError:
        return False
    return True


def order_all() -> None:
    """Order the writes and reads of all registered processes.

    What they have written before this call is seen after it, and what this process has written before the
    call is seen by their later reads. Raises OSError.
    """
    _call(_GLOBAL_EXPEDITED)


def _call(command: int) -> None:
    syscall("membarrier", ctypes.c_int(command), ctypes.c_uint(0), ctypes.c_int(0))
