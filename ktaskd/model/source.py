"""What is known of an open source, found out by the keeper that vetted it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ktaskd.model.function import Access

F_SEAL_SHRINK = 0x2
F_SEAL_GROW = 0x4
F_SEAL_WRITE = 0x8
F_SEAL_FUTURE_WRITE = 0x10
"""Seals of a memfd. Source: fcntl(2), linux/fcntl.h."""


class SourceKind(Enum):
    """What holds the bytes."""

    MEMORY = "memory"
    """memfd or tmpfs: pages are the only copy."""
    HUGE = "huge"
    """hugetlbfs: pages of `page_size` bytes."""
    FILE = "file"
    """A file of a local disk file system."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the keeper saw of one file descriptor.

    Args:
        access: what the descriptor allows.
        append: opened with O_APPEND, so that pwrite appends.
        seals: F_GET_SEALS, 0 where the file cannot be sealed.
        size: length in bytes when it was vetted.
        page_size: bytes of one page (hugetlbfs: of one huge page).
        device, inode: identity of the file.
        file_system: its name as in a table of mounts; ext4 for ext2 to ext4 where no table has its mount.
        own_offset: nobody else uses the offset of this open file description,
            so that SEEK_HOLE may be used on it.
        direct: opened with O_DIRECT, so that reads and writes fail unless they are aligned.
    """

    kind: SourceKind
    access: Access
    append: bool
    seals: int
    size: int
    page_size: int
    device: int
    inode: int
    file_system: str
    own_offset: bool
    direct: bool = False

    @property
    def mappable(self) -> bool:
        """Whether touching a mapping cannot be answered by SIGBUS."""
        return bool(self.seals & F_SEAL_SHRINK)


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a changed file is recognised.

    A store through a shared mapping shows late in a file's times, and never in those of memory.
    """

    size: int
    mtime_ns: int
    ctime_ns: int

    def difference(self, now: Stamp) -> str:
        """What is different now, in words; "" = nothing is."""
        if self.size != now.size:
            return f"its length changed from {self.size} to {now.size} bytes"
        if self.mtime_ns != now.mtime_ns:
            return "somebody wrote to it"
        if self.ctime_ns != now.ctime_ns:
            return "its ctime changed: somebody wrote to it, or changed its mode, owner or links"
        return ""
