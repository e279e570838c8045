"""Memory that holds the large parts of a call or a result, and that its receiver maps.

A segment is a memfd that is written once, sealed, and passed on as a descriptor. The kernel frees it
when nobody has its descriptor open and nobody has it mapped. A receiver maps it privately: it can
change what it has received, and nobody else sees that.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from typing import Any

_MFD_NOEXEC_SEAL = 0x8
"""Linux logs a warning without it since 6.3. Source: memfd_create(2)."""
_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_MAP_NORESERVE = 0x4000
_FAILED = ctypes.c_void_p(-1).value

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class Segment:
    """A memfd, which this object owns.

    Attributes:
        fd: its descriptor.
        size: the bytes that have been written.
        offsets: of data that was copied into it, by its address and length there.
    """

    __slots__ = ("__weakref__", "_compared", "fd", "offsets", "size")

    def __init__(self, fd: int, size: int) -> None:
        """Take over a descriptor."""
        self.fd, self.size = fd, size
        self.offsets: dict[tuple[int, int], int] = {}
        self._compared: mmap.mmap | None = None

    def __del__(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    @classmethod
    def empty(cls) -> Segment:
        """Make a new one; raises OSError."""
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            return cls(os.memfd_create("ktask-call", flags | _MFD_NOEXEC_SEAL), 0)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return cls(os.memfd_create("ktask-call", flags), 0)

    @classmethod
    def received(cls, fd: int) -> Segment:
        """Take over one that another process has written; raises OSError."""
        return cls(fd, os.fstat(fd).st_size)

    def append(self, data: memoryview) -> int:
        """Write bytes at the next page's beginning, and return their offset; raises OSError."""
        start = -(-self.size // mmap.PAGESIZE) * mmap.PAGESIZE
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self.fd, data[done:], start + done)
        except OSError:
            os.ftruncate(self.fd, self.size)  # no memory is kept for nothing
            raise
        self.size = start + len(data)
        return start

    def seal(self) -> None:
        """Have nobody change it any more; raises OSError."""
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)

    def holds(self, data: memoryview, offset: int) -> bool:
        """Whether the bytes at an offset are these; raises OSError.

        The mapping is kept, since the same data may be compared many times.
        """
        mapping = self._compared
        if mapping is None or len(mapping) < self.size:
            # Private: sealed memory can be mapped shared only since Linux 6.7.
            flags = mmap.MAP_PRIVATE | mmap.MAP_POPULATE
            mapping = self._compared = mmap.mmap(self.fd, self.size, flags, mmap.PROT_READ)
        return int(_LIBC.memcmp(address_of(data), address_of(mapping) + offset, len(data))) == 0

    def mapped(self) -> memoryview:
        """All bytes, mapped privately and writable for as long as a view of them lives; raises OSError.

        Python's own mmap would keep a descriptor for each mapping, and a program may keep thousands.
        """
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
        address = _LIBC.mmap(None, self.size, protection, flags, self.fd, 0)
        if address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, f"{self.size} bytes cannot be mapped: {os.strerror(number)}")
        memory = (ctypes.c_ubyte * self.size).from_address(address)
        weakref.finalize(memory, _LIBC.munmap, address, self.size).atexit = False
        return memoryview(memory).cast("B")


class _Buffer(ctypes.Structure):
    """The beginning of Py_buffer, and room for the rest. Source: the C API, "Buffer structure"."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_void_p * 15))


def address_of(data: Any) -> int:
    """Return the address of contiguous data, which the caller keeps alive."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(data), ctypes.byref(buffer), 0)
    try:
        return int(buffer.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
