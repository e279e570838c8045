"""The base class of thread functions' bodies, and what a body is given. Used in workers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ktaskd.model.function import ArgValue
from ktaskd.model.limits import POSITION_MAX, QUANTUM_BYTES_MAX
from ktaskd.model.source import SourceFacts, Stamp

Json = dict[str, Any]

UNBOUNDED = POSITION_MAX
"""The quantum of a body that may handle any number of positions without a report."""


class Guarded(Protocol):
    """Some pages of a source, mapped alone."""

    def address(self, position: int) -> int:
        """The address of a position of the source."""

    def close(self) -> None:
        """Unmap them."""


class OpenSource(Protocol):
    """A source inside a worker. Positional I/O only: the description is shared."""

    fd: int
    facts: SourceFacts

    def size(self) -> int:
        """Length in bytes now."""

    def stamp(self) -> Stamp:
        """Length and times now, to recognise a later change."""

    def view(self, start: int, end: int, *, write: bool) -> memoryview:
        """Bytes [start, end) of a mapping that is kept for as long as the source.

        Only for mappable sources. The caller releases the view.
        """

    def cached(self, start: int, end: int) -> memoryview | None:
        """Bytes [start, end) of a file through a mapping, if all of them are in the page cache.

        None if they are not, or if that is not known; read them then. Nothing else tells a file that
        became shorter, or that cannot be read. The caller releases the view at once: a file that
        is cut while the view is in use kills the worker, and its chunk is run again.
        """

    def guarded(self, start: int, end: int, *, write: bool) -> Guarded:
        """[start, end) mapped alone, between guard pages; raises OSError. The caller closes it."""

    def write_mapped(self) -> bool:
        """Whether the source is written through `view` (and must be populated first)."""

    def populate(self, start: int, end: int) -> None:
        """Allocate and map the pages that hold [start, end); changes no byte.

        Raises:
            OSError: there is no memory, or the source has become shorter. Touching such a
                page would raise SIGBUS; here it is an errno.
        """

    def is_populated(self, start: int, end: int) -> bool:
        """Whether `populate` has mapped [start, end) here before and its pages are still there."""

    def touch(self, start: int, end: int, step: int) -> None:
        """Map the pages at multiples of `step` in [start, end), for `nodes`; they are there already.

        Raises:
            OSError: the source has become shorter.
        """

    def holes(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) without storage, ascending; they read as zeros.

        Everything beyond the end of the source is a hole. None if asking would move the
        offset of a file description that others use.
        """

    def absent(self, start: int, end: int) -> list[tuple[int, int]]:
        """Parts of [start, end) whose pages are not in memory, ascending.

        For memory without own_offset. A page that was swapped out is absent too, so the
        caller must check that an absent page reads as zeros before it treats it as a hole.
        """

    def vacant(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) without a page in memory, ascending; None if it is not known.

        For memory. Unlike `holes` it takes a page that was reserved but never written for a page.
        """

    def unallocated(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) for which no storage is even reserved, ascending.

        None if it is not known. For memory, reserved storage that was never written looks
        like a hole.
        """

    def write(self, pieces: Sequence[bytes | memoryview], position: int) -> int:
        """Write some of `pieces` from `position` on, even if O_APPEND was set meanwhile.

        Returns:
            The number of bytes written.
        Raises:
            OSError: nothing was written.
            Failed: some bytes may have been written elsewhere; `dirty` has their span.
        """

    def copy_from(self, src: OpenSource, start: int, end: int) -> int:
        """Let the kernel copy some of [start, end) from the same positions of `src`.

        Returns:
            The number of bytes copied.
        Raises:
            OSError: as copy_file_range and `write`.
        """

    def allocate(self, start: int, end: int) -> None:
        """Reserve storage for [start, end); raises OSError. Changes no byte and no length."""

    def punch(self, start: int, end: int) -> None:
        """Make [start, end) a hole; raises OSError if that is not possible."""

    def nodes(self, start: int, end: int, step: int) -> Mapping[int, int] | None:
        """Count the pages at multiples of `step` by their NUMA node.

        Pages that are not mapped here are counted under a negative number. None if this worker
        has not mapped the source for writing, or is not allowed to ask.
        """

    def resident(self, start: int, end: int) -> int | None:
        """Bytes of [start, end) that are in memory; None if the kernel does not report it."""

    def cache_room(self) -> int | None:
        """Bytes of memory that are available without evicting pages in use; None = not known."""


class Control(Protocol):
    """A body's connection to the daemon while it works on one chunk or one undo."""

    def quantum(self, position: int) -> bool:
        """Report that everything before `position` is done; True = stop here.

        Called after each quantum, about 1 ms of work and at most 8 MiB.
        """

    def prior(self, start: int, end: int, holes: Sequence[tuple[int, int]]) -> None:
        """Report what [start, end) holds before it is written.

        `holes` are the parts that read as zeros and take no space, ascending.
        Sent before the first write, so that the report outlives this process.
        """

    def rest(self, wanted: int) -> bool:
        """Sleep until descriptor `wanted` is readable; meanwhile the worker needs no permit.

        For open-ended functions, between two calls.

        Returns:
            True if the descriptor is readable; the worker counts as working again. False if
            the worker is needed for something else, so the chunk has to end.
        """


class Context:
    """A job as its body sees it: arguments with defaults filled in, and sources."""

    def __init__(
        self,
        arg: Mapping[str, ArgValue],
        sources: Mapping[str, OpenSource],
        items: Mapping[int, OpenSource],
        span: tuple[int, int],
        whole: bool,
    ) -> None:
        """Keep them.

        Args:
            sources: by role.
            items: by position, those of the current chunk.
            span: first position and position after the last of the whole job.
            whole: the job has no ranges, so it covers its first source.
        """
        self.arg = arg
        self.sources = sources
        self.items = items
        self.span = span
        self.whole = whole
        self.combined: Json = {}
        """The result of combine over all parts; for finish."""


class Body:
    """Base of all bodies; each overrides the methods that its declaration promises."""

    quantum: int = QUANTUM_BYTES_MAX
    """Bound of the positions between two calls of Control.quantum, before the first, and after the last.

    Before it calls again, `run` uses no position at or beyond the reported one plus this bound. So
    what lies behind may be given to another worker while this one runs.
    """

    def quantum_of(self, context: Context) -> int:
        """The same for the chunk that comes next, whose positions may be items."""
        return 1 if context.items else self.quantum

    def prepare(self, context: Context) -> Json:
        """Runs before the first chunk, on one worker; changes nothing.

        Returns:
            An object for begin, finish and restore. "by_prepare" and "by_finish" in it are
            lists of the spans [start, end) that begin and finish will change.
        """
        return {}

    def begin(self, context: Context, prepared: Json) -> None:
        """Runs right after prepare, on the same worker: makes the changes that chunks rely on.

        If it fails or its worker dies, restore takes back whatever it had changed.
        """

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Process [start, end), or less if control stops it.

        Returns:
            The position reached (== end unless stopped), and the JSON result of
            [start, reached); None if the function has no results.
        Raises:
            OSError, ValueError: the chunk failed. Everything that the body may have changed
                lies in [start, last quantum): beyond that it has put everything back, or it
                has reported one quantum more. If the function has an undo, the worker undoes
                that span itself; otherwise the span is dirty.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Put [start, end) back; `holes` are the holes that prior reported inside it.

        Returns:
            The parts that could not be put back.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """Join adjacent results, ascending, into one. Must be associative.

        Names that begin with "_" are for finish and are not part of the job's result.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def finish(self, context: Context, prepared: Json, control: Control) -> Json | None:
        """Runs after all chunks succeeded, on one worker; reports to control, like an undo.

        Returns:
            Values of the result that it has changed; None = the combined result stays.
        """

    def restore(self, context: Context, prepared: Json) -> None:
        """Runs after the undo of all chunks, on one worker: takes back what begin changed."""

    def wipe(self) -> None:
        """Erase everything kept from the jobs so far: the next job is another user's."""
