"""Facts about an open source, found out by the keeper that vetted it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from operator import attrgetter
from typing import Any

from ktaskd.model.function import Access

F_SEAL_SHRINK = 0x2
F_SEAL_GROW = 0x4
F_SEAL_WRITE = 0x8
F_SEAL_FUTURE_WRITE = 0x10
"""Seals of a memfd. Source: fcntl(2), linux/fcntl.h."""


class SourceKind(Enum):
    """The kind of storage that holds the bytes."""

    MEMORY = "memory"
    """memfd or tmpfs: the pages are the only copy."""
    HUGE = "huge"
    """hugetlbfs: pages of `page_size` bytes."""
    FILE = "file"
    """A file on a local disk file system."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The keeper's findings about one file descriptor.

    Args:
        access: what the descriptor allows.
        append: opened with O_APPEND, so pwrite appends.
        seals: F_GET_SEALS, 0 if the file cannot be sealed.
        size: length in bytes when it was vetted.
        page_size: bytes of one page (on hugetlbfs of one huge page).
        device, inode: identity of the file.
        file_system: its name in a mount table; if no table has its mount, ext4 stands for ext2 to ext4.
        own_offset: nobody else uses the offset of this open file description, so SEEK_HOLE may be
            used on it.
        direct: opened with O_DIRECT, so unaligned reads and writes fail.
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
        """Whether a mapping can be touched without the risk of SIGBUS."""
        return bool(self.seals & F_SEAL_SHRINK)

    @property
    def row(self) -> list[Any]:
        """All facts in their order, as JSON knows them: short, for messages with many."""
        return [self.kind.value, self.access.value, *_after_access(self)]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> SourceFacts:
        """The inverse of `row`; raises KeyError, TypeError or ValueError."""
        kind, access, *others = row
        return cls(_KINDS[kind], _ACCESSES[access], *others)


_after_access = attrgetter(*[field.name for field in fields(SourceFacts)][2:])
_KINDS = {kind.value: kind for kind in SourceKind}
_ACCESSES = {access.value: access for access in (Access.READ, Access.WRITE, Access.READ_WRITE)}


@dataclass(frozen=True, slots=True)
class Stamp:
    """Length and times of a file, to recognise a change.

    A store through a shared mapping shows late in a file's times, and never in those of memory.
    """

    size: int
    mtime_ns: int
    ctime_ns: int

    def difference(self, now: Stamp) -> str:
        """The difference to `now`, in words; "" = there is none."""
        if self.size != now.size:
            return f"its length changed from {self.size} to {now.size} bytes"
        if self.mtime_ns != now.mtime_ns:
            return "somebody wrote to it"
        if self.ctime_ns != now.ctime_ns:
            return "its ctime changed: somebody wrote to it, or changed its mode, owner or links"
        return ""
