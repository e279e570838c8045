"""A source inside a worker: a descriptor and a mapping that is kept."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ktaskd.functions.body import OpenSource
from ktaskd.functions.failures import TARGET_CHANGED, Failed
from ktaskd.host.files import descriptors, extents, holes, writing
from ktaskd.host.memory import pagecache
from ktaskd.host.memory.guarded import GuardedMapping
from ktaskd.host.memory.mapping import Mapping
from ktaskd.host.root import HostRoot
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_SHRINK, F_SEAL_WRITE, SourceFacts, SourceKind, Stamp
from ktaskd.model.spans import SpanSet

_WRITER = writing.Positioned()

_CACHED_MIN = 4 << 20
"""Shorter files are read: mapping and unmapping one costs more than a copy of its bytes, and a descriptor."""


class Source:
    """Implements `functions.body.OpenSource`; owns one descriptor.

    Positional I/O only: the file description is shared with the client.
    """

    def __init__(self, fd: int, facts: SourceFacts) -> None:
        """Take over `fd`; `close` closes it."""
        self.fd = fd
        self.facts = facts
        self._mapping: Mapping | None = None
        self._cache: Mapping | None = None
        """A file, mapped only to be read: mapping its pages for writing would make them dirty."""
        self._data = (0, 0)
        self._populated = SpanSet()
        self._is_cachable = facts.kind is SourceKind.FILE and Access.READ in facts.access

    def unmapped(self) -> Source:
        """The same descriptor for a job that must not map it; this object still owns it.

        Touching a hole of memory through a mapping allocates it, and charges the process that
        touched it. A source that seems to have no holes may have some: storage beyond its end
        counts as well, and a hole can be made at any time.
        """
        return Source(self.fd, replace(self.facts, seals=self.facts.seals & ~F_SEAL_SHRINK))

    def begin_job(self) -> None:
        """A new job begins to use it: forget where data was, since it may be a hole by now."""
        self._data = (0, 0)

    def size(self) -> int:
        """Length in bytes now."""
        return os.fstat(self.fd).st_size

    def stamp(self) -> Stamp:
        """Length and times now, to recognise a later change."""
        return descriptors.read_stamp(self.fd)

    def view(self, start: int, end: int, *, write: bool) -> memoryview:
        """Bytes [start, end) of the mapping. The caller releases the view.

        Raises:
            OSError: ENODATA if the source ends before `end`.
        """
        if start >= end:
            return memoryview(bytearray())
        mapping = self._mapped(end)
        if write and not mapping.write:
            raise OSError(errno.EACCES, "the source cannot be mapped for writing")
        return mapping.view(start, end)

    def cached(self, start: int, end: int) -> memoryview | None:
        """[start, end) of a file through a mapping, if all of it is in the page cache; else None.

        Mapping the pages first leaves only a moment in which a cut of the file raises SIGBUS. The
        chunk of a worker that dies of it is run again, and then finds the file shorter.
        """
        if not self._is_cachable or (self._cache is None and self.size() < _CACHED_MIN):
            return None
        try:
            if pagecache.read_resident(self.fd, start, end) < end - start:
                return None
            mapping = self._read_mapping(end)
            mapping.populate(start, end)
        except (OSError, ValueError):
            # Not again: the kernel does not report it, or the file cannot be mapped. A file that
            # is shorter now ends the job anyway.
            self._is_cachable = False
            return None
        return mapping.view(start, end)

    def guarded(self, start: int, end: int, *, write: bool) -> GuardedMapping:
        """[start, end) mapped alone, between guard pages; the caller closes it."""
        return GuardedMapping(self.fd, start, end, write=write, page_size=self.facts.page_size)

    def write_mapped(self) -> bool:
        """Whether the source is written through `view`.

        Memory is: workers that pwrite one file wait for each other at the lock of its inode,
        and hugetlbfs has no write at all. On hugetlbfs, a source that is not sealed against
        shrinking can still cause SIGBUS, which costs the chunk its worker and is survived.
        """
        return self._map_writable() and (self.facts.mappable or self.facts.kind is SourceKind.HUGE)

    def populate(self, start: int, end: int) -> None:
        """Allocate and map the pages that hold [start, end); changes no byte.

        Pages that were populated here before are only checked: for 256 MiB that takes 2 ms,
        while populating them again takes 10 ms.
        """
        if start >= end:
            return
        mapping = self._mapped(end)
        if not self.is_populated(start, end):
            mapping.populate(start, end)
            self._populated.add(start, end)

    def is_populated(self, start: int, end: int) -> bool:
        """Whether `populate` has mapped [start, end) here before and its pages are still there."""
        mapping = self._mapping
        if mapping is None or self.facts.kind is SourceKind.HUGE or not self._populated.covers(start, end):
            return False
        return mapping.size >= end and _is_present(mapping, start, end)

    def touch(self, start: int, end: int, step: int) -> None:
        """Map the pages at multiples of `step` in [start, end); raises OSError."""
        if start < end:
            self._mapped(end).touch(start, end, max(step, self.facts.page_size))

    def holes(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) without storage; None if asking is not allowed or not possible.

        hugetlbfs cannot answer: it has no lseek of its own.
        """
        if not self.facts.own_offset or self.facts.kind is SourceKind.HUGE:
            return None
        # A stretch of data is remembered during one job: asking for each chunk of a dense
        # memfd would walk all of its pages each time. Holes that somebody makes meanwhile
        # count as data, which is safe: they are copied as zeros, and dirty after an undo.
        if self._data[0] <= start and end <= self._data[1]:
            return []
        found, self._data = holes.read_layout(self.fd, start, end)
        return found

    def absent(self, start: int, end: int) -> list[tuple[int, int]]:
        """Parts of [start, end) whose pages are not in memory.

        Empty for hugetlbfs: mincore only sees pages that are mapped here.
        """
        if start >= end or self.facts.kind is SourceKind.HUGE:
            return []
        return self._mapped(end).absent(start, end)

    def vacant(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) without a page in memory; None if the kernel does not report it."""
        try:
            return pagecache.read_vacant(self.fd, start, end)
        except OSError:
            return None

    def unallocated(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) for which no storage is even reserved; None = not known."""
        if self.facts.kind is SourceKind.FILE:
            found = extents.read_unallocated(self.fd, start, end)
            if found is not None:
                return found
        return self.holes(start, end)

    def write(self, pieces: Sequence[bytes | memoryview], position: int) -> int:
        """Write some of `pieces` from `position` on; returns the number of bytes. Raises OSError."""
        try:
            return _WRITER.write(self.fd, pieces, position)
        except writing.Misplaced as error:
            raise _misplaced(error) from error

    def copy_from(self, src: OpenSource, start: int, end: int) -> int:
        """Let the kernel copy some of [start, end) from `src`; returns the bytes. Raises OSError."""
        try:
            return writing.copy_watched(src.fd, self.fd, end - start, start)
        except writing.Misplaced as error:
            raise _misplaced(error) from error

    def allocate(self, start: int, end: int) -> None:
        """Reserve storage for [start, end); raises OSError. Changes no byte and no length."""
        holes.allocate(self.fd, start, end)

    def punch(self, start: int, end: int) -> None:
        """Make [start, end) a hole; raises OSError if that is not possible."""
        self._data = (0, 0)
        holes.punch(self.fd, start, end)

    def nodes(self, start: int, end: int, step: int) -> Counter[int] | None:
        """Count the pages at multiples of `step` by NUMA node; None if that is not known.

        Does not map the source for it: without a mapping, pages have no address to ask for.
        """
        mapping = self._mapping
        if mapping is None or not mapping.write or mapping.size < end:
            return None
        try:
            return mapping.nodes(start, end, max(step, self.facts.page_size))
        except OSError:
            return None

    def resident(self, start: int, end: int) -> int | None:
        """Bytes of [start, end) that are in memory; None if the kernel does not report it."""
        try:
            return pagecache.read_resident(self.fd, start, end)
        except OSError:
            pass
        if not self.facts.mappable or not self._map_writable():
            return None
        return end - start - sum(after - first for first, after in self.absent(start, end))

    def cache_room(self) -> int | None:
        """Bytes of memory that are available without evicting pages in use; None = not known."""
        return pagecache.read_room(HostRoot())

    @property
    def mapped_bytes(self) -> int:
        """Bytes of its mappings; 0 = it has none."""
        return sum(mapping.size for mapping in (self._mapping, self._cache) if mapping is not None)

    @property
    def outlives_jobs(self) -> bool:
        """Whether its mapping may stay when its job has ended: memory's may, a file's would keep it busy."""
        return self.facts.kind is not SourceKind.FILE

    def unmap(self) -> None:
        """Drop the mappings, which are made again when they are needed; one stays while a view is in use."""
        with contextlib.suppress(BufferError):
            if self._mapping is not None:
                self._mapping.close()
                self._mapping, self._populated = None, SpanSet()
        with contextlib.suppress(BufferError):
            if self._cache is not None:
                self._cache.close()
                self._cache = None

    def close(self) -> None:
        """Unmap and close."""
        self._unmap()
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def _map_writable(self) -> bool:
        """Whether a shared writable mapping is allowed; it needs both rights."""
        return self.facts.access is Access.READ_WRITE and not self.facts.seals & F_SEAL_WRITE

    def _mapped(self, end: int) -> Mapping:
        """The mapping; made, or made again, to reach `end`."""
        if self._mapping is None or self._mapping.size < end:
            size = self.size()
            if size < end:
                raise OSError(errno.ENODATA, f"ends at {size}, but the job needs bytes up to {end}")
            self._unmap()
            self._mapping = Mapping(self.fd, size, write=self._map_writable(), page_size=self.facts.page_size)
        return self._mapping

    def _read_mapping(self, end: int) -> Mapping:
        """The mapping of the page cache; made, or made again, to reach `end`."""
        if self._cache is None or self._cache.size < end:
            if self._cache is not None:
                self._cache.close()
            self._cache = None
            self._cache = Mapping(self.fd, self.size(), write=False, page_size=self.facts.page_size)
        return self._cache

    def _unmap(self) -> None:
        """Unmap the source."""
        if self._mapping is not None:
            mapping, self._mapping = self._mapping, None
            self._populated = SpanSet()
            mapping.close()


def _misplaced(error: writing.Misplaced) -> Failed:
    return Failed(errno.ESTALE, str(error.strerror), reason=TARGET_CHANGED, dirty=[(error.start, error.end)])


def _is_present(mapping: Mapping, start: int, end: int) -> bool:
    """Whether all pages are in memory; False if a system call filter forbids asking."""
    try:
        return not mapping.absent(start, end)
    except OSError:
        return False
