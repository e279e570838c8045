"""What a client's descriptor is, looked at in an order that does not block.

Runs in a keeper only. A file of FUSE or of a network file system can hang
whoever asks it anything, fstat included, so first comes what the kernel
answers by itself: the flags, the seals, the mount id and the link text. Only
what is memory, or is on a local file system, is asked more.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping

from ktaskd.model.errors import FdUnsuitable
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, SourceFacts, SourceKind

_ON_DISK = ("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "jfs", "nilfs2", "reiserfs")
_OTHER = ("ubifs", "overlay", "vfat", "exfat", "ntfs3", "udf", "iso9660", "squashfs", "erofs")
LOCAL = frozenset((*_ON_DISK, *_OTHER))
"""File systems whose files answer without a process or a network behind them."""

MEMORY = frozenset(("tmpfs", "ramfs", "rootfs"))
HUGE = "hugetlbfs"
NODES = frozenset(("devtmpfs", "devpts"))
"""Safe to ask what a file is, but never to be worked on."""

_ASKABLE = LOCAL | MEMORY | NODES | {HUGE}

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_WANTED = "wanted a regular file or memory"
_ACCESS = {os.O_RDONLY: Access.READ, os.O_WRONLY: Access.WRITE, os.O_RDWR: Access.READ_WRITE}
_TYPES = {
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFLNK: "symbolic link",
}
_LINKS = {"socket:": "socket", "pipe:": "pipe", "anon_inode:": "kernel object without a file"}


def vet(fd: int, *, own_offset: bool, what: str = "descriptor") -> SourceFacts:
    """Find out what `fd` is, and whether it can be worked on.

    Args:
        own_offset: what the sender promised of the offset.
        what: how messages call it.
    Raises:
        FdUnsuitable: it cannot be worked on, or could not be looked at.
    """
    try:
        return _vet(fd, own_offset, what)
    except OSError as error:
        raise FdUnsuitable(f"{what}: cannot be looked at: {error.strerror}") from error


def _vet(fd: int, own_offset: bool, what: str) -> SourceFacts:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    # O_PATH reads as O_RDONLY, but gives no right to the bytes.
    if flags & os.O_PATH:
        raise FdUnsuitable(f"{what}: opened with O_PATH, wanted it open for reading or writing")
    access = _ACCESS.get(flags & os.O_ACCMODE)
    if access is None:
        raise FdUnsuitable(f"{what}: opened neither for reading nor for writing")
    seals = read_seals(fd)
    file_system = _file_system(fd, seals, what)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FdUnsuitable(f"{what}: is a {describe_type(status.st_mode)}, {_WANTED}")
    kind = _kind(fd, file_system, seals, what)
    return SourceFacts(
        kind=kind,
        access=_without_sealed(access, seals or 0, what),
        append=bool(flags & os.O_APPEND),
        seals=seals or 0,
        size=status.st_size,
        page_size=os.fstatvfs(fd).f_bsize if kind is SourceKind.HUGE else PAGE_BYTES,
        device=status.st_dev,
        inode=status.st_ino,
        file_system=file_system or (HUGE if kind is SourceKind.HUGE else "tmpfs"),
        own_offset=own_offset,
        direct=bool(flags & os.O_DIRECT),
    )


def read_seals(fd: int) -> int | None:
    """F_GET_SEALS; None where the file is not shmem or hugetlbfs.

    The kernel answers from its own inode, so this never blocks, and a number
    proves that the file is memory. Source: mm/memfd.c.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return None


def _without_sealed(access: Access, seals: int, what: str) -> Access:
    """The access that is left when writing is sealed, whatever the descriptor says."""
    if not seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        return access
    if access is Access.WRITE:
        raise FdUnsuitable(
            f"{what}: opened write-only and sealed against writing, so nothing can be done with it"
        )
    return Access.READ


def _file_system(fd: int, seals: int | None, what: str) -> str:
    """Type of the file system, "" for memory on a mount of the kernel's own.

    Raises:
        FdUnsuitable: nothing more may be asked of this file.
    """
    name = read_mount_types().get(read_mount_id(f"/proc/self/fdinfo/{fd}"))
    if seals is not None:
        return name or ""
    if name is None:
        raise FdUnsuitable(f"{what}: is {_describe_link(fd)}, {_WANTED}")
    check_file_system(name, what)
    return name


def check_file_system(name: str, what: str) -> None:
    """Raise FdUnsuitable unless a file there may be asked what it is."""
    if name not in _ASKABLE:
        raise FdUnsuitable(f'{what}: is on "{name or "unknown"}", wanted a local file system or memory')


def _kind(fd: int, file_system: str, seals: int | None, what: str) -> SourceKind:
    if file_system == HUGE:
        return SourceKind.HUGE
    if seals is not None:
        # A memfd is on a mount that has no name. Its block is its page, and a
        # huge page is longer than an ordinary one.
        return SourceKind.HUGE if os.fstatvfs(fd).f_bsize > PAGE_BYTES else SourceKind.MEMORY
    if file_system in MEMORY:
        return SourceKind.MEMORY
    if file_system in NODES:
        raise FdUnsuitable(f'{what}: is on "{file_system}", wanted a local file system or memory')
    return SourceKind.FILE


def describe_type(mode: int) -> str:
    """What kind of file a st_mode is, in words."""
    return _TYPES.get(stat.S_IFMT(mode), "file of an unknown type")


def _describe_link(fd: int) -> str:
    """What is known of a file on no mount that we see, in words."""
    link = os.readlink(f"/proc/self/fd/{fd}")
    for prefix, words in _LINKS.items():
        if link.startswith(prefix):
            return f"a {words}"
    return "on a mount that the daemon does not see"


def read_mount_id(path: str) -> int:
    """The mount id in a file of /proc/self/fdinfo; -1 if there is none.

    Exact while the descriptor is open: it holds its mount, whose number is
    given to no other until then.
    """
    with open(path, "rb") as file:
        for line in file.read().split(b"\n"):
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                return int(value)
    return -1


def read_mount_types() -> Mapping[int, str]:
    """File system type by mount id, of this process's mount namespace."""
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mount_types(file.read())


def parse_mount_types(text: bytes) -> Mapping[int, str]:
    r"""File system type by mount id.

    Only a newline ends a line: a path may hold all that str.splitlines takes
    for an end, and whoever may mount could write lines of his own.

    Source: proc_pid_mountinfo(5): the type is the first field after a lone
    "-", which ends the optional fields; blanks in paths are written \040.
    """
    types = {}
    for line in text.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        if dash:
            types[int(before.split(b" ", 1)[0])] = after.split(b" ", 1)[0].decode("ascii", "replace")
    return types
