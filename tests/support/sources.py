"""Facts of files that tests make, as a keeper would find them."""

from __future__ import annotations

import fcntl
import mmap
import os

from ktaskd.model.function import Access
from ktaskd.model.source import SourceFacts, SourceKind


def facts_of(fd: int, *, own_offset: bool = False, access: Access = Access.READ_WRITE) -> SourceFacts:
    """The facts that a keeper would find about a file that a test made."""
    status = os.fstat(fd)
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    memory = os.readlink(f"/proc/self/fd/{fd}").startswith(("/memfd:", "/dev/shm/"))
    return SourceFacts(
        kind=SourceKind.MEMORY if memory else SourceKind.FILE,
        access=access,
        append=False,
        seals=seals,
        size=status.st_size,
        page_size=mmap.PAGESIZE,
        device=status.st_dev,
        inode=status.st_ino,
        file_system="tmpfs" if memory else "ext4",
        own_offset=own_offset,
    )
