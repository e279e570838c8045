"""Calls of the C library and the kernel that Python 3.11 does not offer."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]

_MAP_FAILED = ctypes.c_void_p(-1).value
_PR_SET_NAME = 15
"""Source: prctl(2)"""
_AT_EMPTY_PATH, _AT_STATX_DONT_SYNC = 0x1000, 0x4000
"""Source: linux/fcntl.h"""
_STATX_BYTES, _STATX_MASK_AT, _STATX_DEVICE_AT = 256, 0x38, 0x88
"""Size of struct statx, and where stx_attributes_mask and stx_dev_major are in it. Source: linux/stat.h"""
_HANDLE_BYTES = 128
"""MAX_HANDLE_SZ. Source: linux/exportfs.h"""
_STATFS_BYTES = 256
"""At least the size of struct statfs on any machine; its first field is f_type, a long."""

# x86-64 has its own numbers; the newer architectures share one table.
# Source: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h
# Since Linux 5.1 a new call has the same number everywhere.
_NEW = {
    "io_uring_setup": 425,
    "pidfd_getfd": 438,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
    "cachestat": 451,
}
_X86_64 = {
    "socket": 41,
    "ptrace": 101,
    "set_mempolicy": 238,
    "get_mempolicy": 239,
    "ioprio_set": 251,
    "ioprio_get": 252,
    "move_pages": 279,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "seccomp": 317,
    "membarrier": 324,
    **_NEW,
}
_GENERIC = {
    "ioprio_set": 30,
    "ioprio_get": 31,
    "ptrace": 117,
    "socket": 198,
    "get_mempolicy": 236,
    "set_mempolicy": 237,
    "move_pages": 239,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "seccomp": 277,
    "membarrier": 283,
    **_NEW,
}
NUMBERS_OF = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}
"""Numbers of system calls, by platform.machine()."""
_NUMBERS = NUMBERS_OF.get(platform.machine(), {})


def _checked(result: int, name: str) -> int:
    """Return the result of a call; raise OSError if it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall(name: str, *args: object) -> int:
    """Make a system call by number.

    Args:
        args: ctypes values, wide enough for the kernel's own types.
    Raises:
        OSError: it failed; ENOSYS if its number on this machine is not known.
    """
    number = _NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: its number on {platform.machine()} is not known")
    return _checked(_LIBC.syscall(ctypes.c_long(number), *args), name)


def prctl(option: int, value: int) -> int:
    """Read or change one attribute of this process; raises OSError."""
    zero = ctypes.c_ulong(0)
    return _checked(
        _LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero),
        "prctl",
    )


def set_name(name: bytes) -> None:
    """Set the name of this process in ps and top; the kernel keeps 15 bytes of it. Raises OSError."""
    text = ctypes.create_string_buffer(name)
    prctl(_PR_SET_NAME, ctypes.addressof(text))


def file_system_of(fd: int) -> int:
    """The magic number of the file system that holds `fd`; raises OSError. Source: statfs(2)."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    _checked(_LIBC.fstatfs(ctypes.c_int(fd), buffer), "fstatfs")
    return ctypes.c_ulong.from_buffer(buffer).value


def cached_facts_of(fd: int) -> tuple[int, int]:
    """The device (like st_dev) and stx_attributes_mask of a file, from the kernel's memory; raises OSError.

    The call requests nothing (mask 0) and forbids synchronising, so a file system with a server
    answers without asking the server. Source: statx(2), fuse_update_get_attr and nfs_getattr in Linux
    """
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = ctypes.c_int(_AT_EMPTY_PATH | _AT_STATX_DONT_SYNC)
    _checked(_LIBC.statx(ctypes.c_int(fd), b"", flags, ctypes.c_uint(0), buffer), "statx")
    (mask,) = struct.unpack_from("=Q", buffer, _STATX_MASK_AT)
    return os.makedev(*struct.unpack_from("=II", buffer, _STATX_DEVICE_AT)), mask


def handle_type_of(fd: int) -> int:
    """The type of the handle that the file system makes for a file, from the kernel's memory.

    Raises:
        OSError: it failed; EOPNOTSUPP if the file system makes no handles.
    Source: name_to_handle_at(2)
    """
    handle = ctypes.create_string_buffer(struct.pack("=Ii", _HANDLE_BYTES, 0), 8 + _HANDLE_BYTES)
    mount = ctypes.c_int()
    flags = ctypes.c_int(_AT_EMPTY_PATH)
    name_to_handle = _LIBC.name_to_handle_at
    _checked(name_to_handle(ctypes.c_int(fd), b"", handle, ctypes.byref(mount), flags), "name_to_handle_at")
    found: tuple[int, int] = struct.unpack_from("=Ii", handle)
    return found[1]


def fallocate(fd: int, mode: int, start: int, length: int) -> None:
    """Change the storage of a file; raises OSError."""
    while True:
        try:
            _checked(_LIBC.fallocate(fd, mode, start, length), "fallocate")
            return
        except InterruptedError:
            continue


def inotify_init(flags: int) -> int:
    """Open an inotify descriptor, which the caller owns; raises OSError.

    Source: inotify_init1(2)
    """
    return _checked(_LIBC.inotify_init1(ctypes.c_int(flags)), "inotify_init1")


def inotify_add_watch(fd: int, path: bytes, events: int) -> int:
    """Let `fd` report events of a path; raises OSError.

    Source: inotify(7)
    """
    watch = _LIBC.inotify_add_watch(ctypes.c_int(fd), ctypes.c_char_p(path), ctypes.c_uint32(events))
    return _checked(watch, "inotify_add_watch")


def trim_heap() -> bool:
    """Return free pages of this process's heap to the kernel; whether there were any. False without glibc.

    Source: malloc_trim(3)
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    return bool(trim and trim(ctypes.c_size_t(0)))


def mmap(address: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    """Map at an address that the caller chooses, which Python's own mmap cannot; raises OSError."""
    found: int | None = _LIBC.mmap(address, length, protection, flags, fd, offset)
    if found is None or found == _MAP_FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"{length} bytes cannot be mapped: {os.strerror(number)}")
    return found


def munmap(address: int, length: int) -> None:
    """Unmap; raises OSError."""
    _checked(_LIBC.munmap(address, length), "munmap")


def mincore(address: int, length: int, pages: bytearray) -> None:
    """Write to bit 0 of each byte of `pages` whether that page is in memory.

    Args:
        address: of a mapping, at a page boundary.
        pages: at least one byte for each page.
    Source: mincore(2)
    """
    vector = (ctypes.c_ubyte * len(pages)).from_buffer(pages)
    _checked(_LIBC.mincore(address, length, ctypes.addressof(vector)), "mincore")
