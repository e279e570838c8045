"""Choose the NUMA node from which the calling process gets its memory.

The policy of the process that touches a page first decides, also for memfd and tmpfs pages
without a policy of their own. Source: set_mempolicy(2),
Documentation/admin-guide/mm/numa_memory_policy.rst
"""

from __future__ import annotations

import ctypes

from ktaskd.host.libc import syscall

_DEFAULT, _PREFERRED, _BIND = 0, 1, 2
_NAMES = {_PREFERRED: "prefer", _BIND: "bind", 3: "interleave", 4: "local", 5: "prefer"}
_NODES_MAX = 1024
"""CONFIG_NODES_SHIFT is at most 10."""
_WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
_MODE_FLAGS = 0xE000
"""Bits of the mode that are flags. Source: linux/mempolicy.h"""


class _Mask(ctypes.Array[ctypes.c_ulong]):
    _length_ = _NODES_MAX // _WORD_BITS
    _type_ = ctypes.c_ulong


def apply_preferred(nid: int) -> None:
    """Take new pages from `nid` while it has any, and from other nodes after that.

    MPOL_BIND is not used: with it a full node leads to an OOM kill among the processes bound to
    it, while a page on another node would only be slower.

    Raises:
        OSError: EPERM in many containers, ENOSYS without NUMA, EINVAL for a node that does not
            exist.
    """
    if not 0 <= nid < _NODES_MAX:
        raise ValueError(f"nid: got {nid}, wanted 0 to {_NODES_MAX - 1}")
    mask = _Mask()
    mask[nid // _WORD_BITS] = 1 << (nid % _WORD_BITS)
    # The kernel reads one bit less than the given number.
    syscall("set_mempolicy", ctypes.c_int(_PREFERRED), ctypes.byref(mask), ctypes.c_ulong(_NODES_MAX + 1))


def apply_default() -> None:
    """Take new pages from the node that the process runs on; raises OSError as apply_preferred."""
    syscall("set_mempolicy", ctypes.c_int(_DEFAULT), ctypes.c_void_p(None), ctypes.c_ulong(0))


def read_mempolicy() -> str:
    """The policy: "default", "prefer:N", "bind:N"; "" if it cannot be read."""
    mode, mask = ctypes.c_int(0), _Mask()
    try:
        syscall(
            "get_mempolicy",
            ctypes.byref(mode),
            ctypes.byref(mask),
            ctypes.c_ulong(_NODES_MAX),
            ctypes.c_void_p(None),
            ctypes.c_ulong(0),
        )
    except OSError:
        return ""
    nodes = [nid for nid in range(_NODES_MAX) if mask[nid // _WORD_BITS] >> (nid % _WORD_BITS) & 1]
    return describe(mode.value, nodes)


def describe(mode: int, nodes: list[int]) -> str:
    """The words for the result of get_mempolicy."""
    name = _NAMES.get(mode & ~_MODE_FLAGS, "default")
    return f"{name}:{','.join(map(str, nodes))}" if nodes else name
