"""Give up the network and access to other processes, for good.

Both need no right but no_new_privs. A filter of system calls refuses the network: `socket` for every
family, since a unix socket leads to other services, and io_uring, which makes sockets without that
call. Socket pairs and the sockets that the process already has stay usable. The same filter refuses
system calls that look into other processes, and Landlock refuses access through /proc: a process in a
Landlock domain can look only into that domain. If the kernel has both, this closes the gap that uid
and dumpable leave while a process of the same user is being started.

Source: seccomp(2), landlock(7), linux/audit.h, linux/filter.h, linux/landlock.h
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Sequence

from ktaskd.host.libc import NUMBERS_OF, syscall

ARCHITECTURES = {
    "x86_64": 0xC000003E,
    "aarch64": 0xC00000B7,
    "riscv64": 0xC00000F3,
    "loongarch64": 0xC0000102,
}
"""AUDIT_ARCH_*, by platform.machine()."""

REFUSED = ("socket", "io_uring_setup", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd")
"""System calls that fail with EPERM."""

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
"""BPF_LD+BPF_W+BPF_ABS, BPF_JMP+BPF_JEQ+BPF_K, BPF_JMP+BPF_JGE+BPF_K, BPF_RET+BPF_K."""
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
"""Offsets in struct seccomp_data."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000
"""First number of the x32 calls, which an x86-64 kernel may know as well."""

_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4
"""Source: seccomp(2). Without SPEC_ALLOW older kernels switch on a slow mitigation for other threats."""

_ABI_VERSION = 1
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_SCOPE_SIGNAL, _SCOPE_SIGNAL_SINCE = 1 << 1, 6


def make_filter(machine: str) -> bytes:
    """The filter for a machine type, as an array of struct sock_filter. Pure.

    Raises:
        OSError: ENOSYS if the numbers of its system calls are not known.
    """
    numbers, architecture = NUMBERS_OF.get(machine, {}), ARCHITECTURES.get(machine)
    if architecture is None or not all(name in numbers for name in REFUSED):
        raise OSError(errno.ENOSYS, f"system calls of {machine} are not known")
    refused = [numbers[name] for name in REFUSED]
    # Jumps count from the next step; the last three steps are ENOSYS, EPERM, allow.
    after = len(refused)
    steps = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 0, after + 2, architecture), (_LOAD, 0, 0, _NUMBER_AT)]
    steps.append((_AT_LEAST, after, 0, _X32))
    steps += [(_EQUAL, after - i, 0, number) for i, number in enumerate(refused)]
    steps[-1] = (_EQUAL, 1, 2, refused[-1])
    steps += [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def give_up_network() -> None:
    """Never make a socket or trace a process again. Requires no_new_privs; raises OSError."""
    program = make_filter(platform.machine())
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog; the compiler leaves a gap between its two fields.
    head = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    mode, flags = ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(_SPEC_ALLOW)
    syscall("seccomp", mode, flags, ctypes.c_char_p(head))


def give_up_other_processes() -> None:
    """Never look into a process outside again; since Linux 6.12 also never signal one.

    Making device files is given up as well, since a domain must refuse something. Requires
    no_new_privs; raises OSError (ENOSYS or EOPNOTSUPP without Landlock).
    """
    version = syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint(_ABI_VERSION))
    scoped = _SCOPE_SIGNAL if version >= _SCOPE_SIGNAL_SINCE else 0
    rules = struct.pack("QQQ", _MAKE_CHAR | _MAKE_BLOCK, 0, scoped)
    size = ctypes.c_size_t(len(rules) if scoped else 8)
    fd = syscall("landlock_create_ruleset", ctypes.c_char_p(rules), size, ctypes.c_uint(0))
    try:
        syscall("landlock_restrict_self", ctypes.c_int(fd), ctypes.c_uint(0))
    finally:
        os.close(fd)


def has_network(families: Sequence[int] = (socket.AF_INET, socket.AF_UNIX)) -> bool:
    """Whether this process can make a socket of any of these families, found by trying."""
    for family in families:
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError:
            continue
        return True
    return False
