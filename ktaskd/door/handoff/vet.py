"""Finds out what a client's descriptor is, in an order that does not block.

Runs in a keeper only. A file of FUSE or of a network file system can hang
any process that asks it anything, fstat included. So the first questions are those that the
kernel answers on its own: the flags, the seals, and what `host/files/mounts.py` knows about the
file system. Only memory, and files on a local file system, are asked more.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass, field

from ktaskd.host.files.mounts import OVERLAY, MountTables, Standing, ask_file_system, read_standing
from ktaskd.model.errors import FdUnsuitable
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE, SourceFacts, SourceKind

_ON_DISK = ("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "f2fs", "zfs", "jfs", "nilfs2", "reiserfs")
_OTHER = ("ubifs", OVERLAY, "vfat", "exfat", "ntfs3", "udf", "iso9660", "squashfs", "erofs")
LOCAL = frozenset((*_ON_DISK, *_OTHER))
"""File systems whose files answer without a process or a network behind them."""

MEMORY = frozenset(("tmpfs", "ramfs", "rootfs"))
HUGE = "hugetlbfs"
NODES = frozenset(("devtmpfs", "devpts"))
"""File systems whose files may be asked what they are, but are never used."""

_ASKABLE = LOCAL | MEMORY | NODES | {HUGE}

_SERVED = (
    *("fuse", "fuseblk", "virtiofs", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre"),
    *("gfs2", "ocfs2", "orangefs", "coda", "vboxsf", "prl_fs", "beegfs", "gpfs", "ecryptfs"),
)
_SERVED_WHY = "FUSE and network file systems are refused, since their server may never answer"
_SERVED_HELP = "copy the file to a local file system or to memory (/dev/shm) and use the copy"

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_WANTED = "wanted a regular file or memory"
_WANTED_PLACE = "wanted a local file system or memory"
_ACCESS = {os.O_RDONLY: Access.READ, os.O_WRONLY: Access.WRITE, os.O_RDWR: Access.READ_WRITE}
_TYPES = {
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFLNK: "symbolic link",
}
_LINKS = {"socket:": "socket", "pipe:": "pipe"}


@dataclass(frozen=True, slots=True)
class Sender:
    """The process that sent the descriptors of one message.

    Args:
        pid: 0 = not known.
        tables: made after the message was received.
    """

    pid: int = 0
    tables: MountTables = field(default_factory=MountTables)


def vet(fd: int, *, own_offset: bool, what: str = "descriptor", sender: Sender | None = None) -> SourceFacts:
    """Find out what `fd` is, and whether jobs can use it.

    Args:
        own_offset: the sender promises that nobody else uses the offset.
        what: its name in messages.
        sender: the sender of its message; None = nobody sent it.
    Raises:
        FdUnsuitable: jobs cannot use it, or it could not be examined.
    """
    try:
        return _vet(fd, own_offset, what, sender or Sender())
    except OSError as error:
        raise FdUnsuitable(f"{what}: cannot be examined: {error.strerror}") from error


def _vet(fd: int, own_offset: bool, what: str, sender: Sender) -> SourceFacts:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    # O_PATH reads as O_RDONLY, but gives no right to the bytes.
    if flags & os.O_PATH:
        raise FdUnsuitable(f"{what}: opened with O_PATH, wanted it open for reading or writing")
    access = _ACCESS.get(flags & os.O_ACCMODE)
    if access is None:
        raise FdUnsuitable(f"{what}: opened neither for reading nor for writing")
    seals = read_seals(fd)
    file_system = _file_system(fd, seals, what, sender)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FdUnsuitable(f"{what}: is a {describe_type(status.st_mode)}, {_WANTED}")
    kind = _kind(file_system, what)
    return SourceFacts(
        kind=kind,
        access=_without_sealed(access, seals or 0, what),
        append=bool(flags & os.O_APPEND),
        seals=seals or 0,
        size=status.st_size,
        page_size=os.fstatvfs(fd).f_bsize if kind is SourceKind.HUGE else PAGE_BYTES,
        device=status.st_dev,
        inode=status.st_ino,
        file_system=file_system,
        own_offset=own_offset,
        direct=bool(flags & os.O_DIRECT),
    )


def read_seals(fd: int) -> int | None:
    """Return F_GET_SEALS; None if the file is not shmem or hugetlbfs.

    The kernel answers from its own inode, so this never blocks, and a number
    proves that the file is memory. Source: mm/memfd.c.
    """
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return None


def _without_sealed(access: Access, seals: int, what: str) -> Access:
    """Return the access that is left when a seal forbids writing."""
    if not seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE):
        return access
    if access is Access.WRITE:
        raise FdUnsuitable(
            f"{what}: opened write-only and sealed against writing, so nothing can be done with it"
        )
    return Access.READ


def _file_system(fd: int, seals: int | None, what: str, sender: Sender) -> str:
    """Return the name of the file system.

    Raises:
        FdUnsuitable: further questions to this file could hang.
    """
    if seals is not None:
        # tmpfs or hugetlbfs: neither has a server.
        return ask_file_system(fd)
    link = _describe_link(fd)
    if link:
        raise FdUnsuitable(f"{what}: is a {link}, {_WANTED}")
    return find_file_system(fd, what, sender)


def find_file_system(fd: int, what: str, sender: Sender | None = None) -> str:
    """Return the name of a descriptor's file system without asking any server. O_PATH descriptors work, too.

    Raises:
        FdUnsuitable: jobs cannot use its files, or a question to them may hang.
    """
    sender = sender or Sender()
    standing = read_standing(fd, sender.pid, sender.tables)
    _check_standing(standing, what)
    name = ask_file_system(fd)
    _check_name(name, what)
    if name == OVERLAY and not standing.shown:
        raise FdUnsuitable(
            f'{what}: is on "{name}" in another mount namespace, above a file system that the daemon cannot '
            f"see, {_WANTED_PLACE}"
        )
    return standing.name or name


def _check_standing(standing: Standing, what: str) -> None:
    if standing.name is not None:
        _check_name(standing.name, what)
    elif not standing.local:
        raise FdUnsuitable(f"{what}: is on a file system that is not local; {_SERVED_WHY}; {_SERVED_HELP}")


def _check_name(name: str, what: str) -> None:
    """Raise FdUnsuitable unless files of this file system may be asked what they are."""
    if name.partition(".")[0] in _SERVED:
        raise FdUnsuitable(f'{what}: is on "{name}"; {_SERVED_WHY}; {_SERVED_HELP}')
    if name not in _ASKABLE:
        raise FdUnsuitable(f'{what}: is on "{name or "unknown"}", {_WANTED_PLACE}')


def _kind(file_system: str, what: str) -> SourceKind:
    if file_system == HUGE:
        return SourceKind.HUGE
    if file_system in MEMORY:
        return SourceKind.MEMORY
    if file_system in NODES:
        raise FdUnsuitable(f'{what}: is on "{file_system}", {_WANTED_PLACE}')
    return SourceKind.FILE


def describe_type(mode: int) -> str:
    """Describe the kind of file that a st_mode names."""
    return _TYPES.get(stat.S_IFMT(mode), "file of an unknown type")


def _describe_link(fd: int) -> str:
    """Describe a descriptor that is on no mount, from the name of its link; "" if it may be a file."""
    link = os.readlink(f"/proc/self/fd/{fd}")
    for prefix, words in _LINKS.items():
        if link.startswith(prefix):
            return words
    return "" if link.startswith("/") else "kernel object without a file"
