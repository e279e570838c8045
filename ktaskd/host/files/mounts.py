"""The file system that a descriptor is on, found without asking a server.

A file of FUSE or of a network file system can hang every process that asks about it: fstat and
fstatfs wait for a server and cannot be killed. `door/handoff/vet.py` asks in this order:

1. **The mount's id** (`/proc/self/fdinfo`, kernel memory). The kernel numbers the mounts of
   all namespaces from one pool, and a descriptor keeps its mount, so a number in the table of
   this process or of PID 1 refers to that very mount. A table can refuse a file, with the proper
   name of its file system, and it can permit step 3. It never decides which file system it is.
2. **statx with mask 0 and AT_STATX_DONT_SYNC**, for a mount in neither table: that of a sandbox,
   a container or another user's namespace, or a detached one. FUSE, NFS, SMB, Ceph and AFS
   answer that from the kernel's memory. (9p and the cluster file systems ask their server, but
   only root can mount those.) Either of two answers proves that no server is behind the file:
   STATX_ATTR_IMMUTABLE is in `stx_attributes_mask`, which local file systems and overlay set and
   those with a server do not; or the device is a real one (its major number is not 0) and the
   file system makes handles (name_to_handle_at, kernel memory) of a type that FUSE does not make.
   The device alone proves nothing, since FUSE can have a block device too: fuseblk.
3. **fstatfs**, after step 1 or 2 permitted it: f_type is the file system of the file.

An overlay needs one more proof, since its f_type hides the layers. It is trusted if its mount is in
one of the two tables, or in that of a client in the initial user namespace, since then root mounted it.
Otherwise any user can have mounted it above a FUSE server of their own. Then two checks follow:

* STATX_ATTR_NODUMP has to be in the mask. An overlay passes it on from the layer that has the attributes of
  the file, and FUSE and network file systems do not have it.
* Since Linux 6.16 a user's overlay can have the data in another layer ("data-only", documented with
  overlayfs). There FS_IOC_FIEMAP has to work: the overlay passes that on to the layer with the data, and
  FUSE, NFS and 9p have no such operation. tmpfs has none either, so its overlays are refused then.

The alternative, to look up the device in the tables, does not work: subvolumes of btrfs and files of
overlays have devices that are in no table, and a container's mounts are in no table of ours.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from ktaskd.host import libc

TABLES = ("/proc/self/mountinfo", "/proc/1/mountinfo")
"""Mounts of this process and of the machine: systemd gives a unit its own mount namespace."""

OVERLAY = "overlay"

MAGICS = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xCA451A4E: "bcachefs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x3153464A: "jfs",
    0x3434: "nilfs2",
    0x52654973: "reiserfs",
    0x24051905: "ubifs",
    0x794C7630: OVERLAY,
    0x4D44: "vfat",
    0x2011BAB0: "exfat",
    0x7366746E: "ntfs3",
    0x15013346: "udf",
    0x9660: "iso9660",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x958458F6: "hugetlbfs",
    0x1CD1: "devpts",
    0x9FA0: "proc",
    0x62656572: "sysfs",
    0x27E0EB: "cgroup",
    0x63677270: "cgroup2",
    0x65735546: "fuse",
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb3",
    0x01021997: "9p",
    0xC36400: "ceph",
}
"""File systems by f_type. Source: linux/magic.h, statfs(2); ext2, ext3 and ext4 share one."""

_IMMUTABLE, _NODUMP = 0x10, 0x40
"""STATX_ATTR_IMMUTABLE and STATX_ATTR_NODUMP. Source: linux/stat.h"""
_DATA_LAYERS_SINCE = (6, 16)
_MOUNT_ID = re.compile(rb"^mnt_id:\s*(-?\d+)$", re.MULTILINE)
_FDINFO_BYTES = 4096
"""More than the lines up to that one. Source: proc_pid_fdinfo(5), fs/proc/fd.c"""
_FIEMAP = struct.Struct("=QQIIII")
_FS_IOC_FIEMAP = 0xC020660B
"""Source: linux/fiemap.h; a count of 0 extents requests only their number."""
_OF_FUSE = frozenset((0x81, 0x82))
"""Types of handles that FUSE makes; xfs makes them too, but sets the attributes. Source: linux/exportfs.h"""


@dataclass(frozen=True, slots=True)
class Standing:
    """The facts about a descriptor's file system that are known without asking it.

    Args:
        name: file system of the mount, from a table; None = the mount is in none.
        local: whether the kernel's memory proves that no server is behind the file.
        shown: the same for the file below an overlay.
    """

    name: str | None
    local: bool
    shown: bool


class MountTables:
    """Tables of mounts, each read once, when it is needed.

    A mount keeps its id while a descriptor on it is open, and the file system of a mount never changes. So
    an object that is made after a descriptor was opened or received is right about it until it is closed,
    and one object serves all descriptors of a message: reading a table takes longer than everything else.
    """

    def __init__(self, *paths: str) -> None:
        """Read nothing yet; without `paths`, the tables are TABLES."""
        self._unread = list(paths or TABLES)
        self._tables: list[Mapping[int, str]] = []

    def type_of(self, fd: int) -> str | None:
        """File system type of the descriptor's mount; None = the mount is in none of the tables."""
        mount = read_mount_id(fd)
        for table in self._tables:
            if mount in table:
                return table[mount]
        while self._unread:
            table = _read_table(self._unread.pop(0))
            self._tables.append(table)
            if mount in table:
                return table[mount]
        return None


def read_standing(fd: int, client: int = 0, tables: MountTables | None = None) -> Standing:
    """Find these facts without asking the file system's server, if it has one; raises OSError.

    Args:
        fd: an O_PATH descriptor suffices.
        client: pid of the process that sent the descriptor; 0 = not known.
        tables: made after `fd` was opened or received; None = read them now.
    """
    name = (tables or MountTables()).type_of(fd)
    if name is not None:
        return Standing(name, local=False, shown=True)
    device, mask = libc.cached_facts_of(fd)
    local = bool(mask & _IMMUTABLE) or (os.major(device) > 0 and _makes_handles_unlike_fuse(fd))
    shown = local and (_is_roots(fd, client) or (bool(mask & _NODUMP) and _has_local_data(fd)))
    return Standing(None, local=local, shown=shown)


def _is_roots(fd: int, client: int) -> bool:
    """Whether a process in the initial user namespace has the mount, so that root made it.

    If the pid was given to another process meanwhile, the answer is still right for that process.
    """
    try:
        with open(f"/proc/{client}/uid_map", "rb") as file:
            initial = file.read().split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return False
    return initial and MountTables(f"/proc/{client}/mountinfo").type_of(fd) is not None


def _has_local_data(fd: int) -> bool:
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release and (int(release[1]), int(release[2])) < _DATA_LAYERS_SINCE:
        return True
    try:
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, _FIEMAP.pack(0, 1, 0, 0, 0, 0))
    except OSError:
        return False
    return True


def _makes_handles_unlike_fuse(fd: int) -> bool:
    try:
        return libc.handle_type_of(fd) not in _OF_FUSE
    except OSError:
        return False


def ask_file_system(fd: int) -> str:
    """The name of the file system, from fstatfs, which asks a server if there is one; raises OSError."""
    magic = libc.file_system_of(fd)
    return MAGICS.get(magic, f"unknown, of type {magic:#x}")


def _read_table(path: str) -> Mapping[int, str]:
    try:
        with open(path, "rb") as file:
            return parse_mount_types(file.read())
    except OSError:  # hidepid=, or no such process
        return {}


def read_mount_id(fd: int) -> int:
    """The mount id of a descriptor of this process; -1 if there is none.

    The id is exact while the descriptor is open: it keeps its mount, and the kernel does not
    reuse the number before that.
    """
    # Without a file object, which takes as long as the rest.
    info = os.open(f"/proc/self/fdinfo/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _MOUNT_ID.search(os.read(info, _FDINFO_BYTES))
    finally:
        os.close(info)
    return int(found[1]) if found else -1


def parse_mount_types(text: bytes) -> Mapping[int, str]:
    r"""File system type by mount id.

    Only a newline ends a line. A path may contain other characters at which str.splitlines
    splits, so a user who can mount could forge lines.

    Source: proc_pid_mountinfo(5): the type is the first field after a lone
    "-", which ends the optional fields; blanks in paths are written \040.
    """
    types = {}
    for line in text.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        if dash:
            types[int(before.split(b" ", 1)[0])] = after.split(b" ", 1)[0].decode("ascii", "replace")
    return types
