"""What the body of a thread function looks like. Used in workers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ktaskd.model.function import ArgValue
from ktaskd.model.source import SourceFacts, Stamp

Json = dict[str, Any]


class Guarded(Protocol):
    """Some pages of a source at addresses of their own."""

    def address(self, position: int) -> int:
        """Where a position of the source is."""

    def close(self) -> None:
        """Unmap them."""


class OpenSource(Protocol):
    """A source inside a worker. Positional I/O only: the description is shared."""

    fd: int
    facts: SourceFacts

    def size(self) -> int:
        """Length in bytes now."""

    def stamp(self) -> Stamp:
        """By what it is seen later whether it has changed."""

    def view(self, start: int, end: int, *, write: bool) -> memoryview:
        """Bytes [start, end) of a mapping that is kept while the source lives.

        Only for mappable sources. The caller releases the view.
        """

    def guarded(self, start: int, end: int, *, write: bool) -> Guarded:
        """[start, end) mapped alone, with nothing near it; raises OSError. The caller closes it."""

    def write_mapped(self) -> bool:
        """Whether it is written through `view` (and must be populated first)."""

    def populate(self, start: int, end: int) -> None:
        """Allocate and map the pages that hold [start, end); changes no byte.

        Raises:
            OSError: there is no memory, or the source has become shorter. What
                would be SIGBUS on touching a page is an errno here.
        """

    def holes(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) without storage, ascending; they read as zeros.

        Beyond the end of the source all is a hole. None where asking would
        move the offset of a description that others use.
        """

    def absent(self, start: int, end: int) -> list[tuple[int, int]]:
        """Parts of [start, end) whose pages are not in memory, ascending.

        For memory without own_offset. A page that was swapped out is absent
        too, so who believes in a hole must see that it reads as zeros.
        """

    def unallocated(self, start: int, end: int) -> list[tuple[int, int]] | None:
        """Parts of [start, end) for which no storage is even reserved, ascending.

        None where it cannot be known. Memory does not tell what was reserved and
        never written from a hole.
        """

    def write(self, pieces: Sequence[bytes | memoryview], position: int) -> int:
        """Write some of `pieces` from `position` on, also where O_APPEND was set meanwhile; how many bytes.

        Raises:
            OSError: nothing was written; or a failure that names what may have been written elsewhere.
        """

    def copy_from(self, src: OpenSource, start: int, end: int) -> int:
        """Let the kernel copy some of [start, end) from the same positions of `src`; how many bytes.

        Raises:
            OSError: as copy_file_range and `write`.
        """

    def allocate(self, start: int, end: int) -> None:
        """Reserve storage for [start, end); raises OSError. Changes no byte and no length."""

    def punch(self, start: int, end: int) -> None:
        """Make [start, end) a hole; raises OSError where that cannot be."""

    def nodes(self, start: int, end: int, step: int) -> Mapping[int, int] | None:
        """Pages by NUMA node, of those at multiples of `step` that are mapped here.

        What is not mapped is counted below 0. None where this worker has not mapped
        the source for writing, or may not ask.
        """

    def resident(self, start: int, end: int) -> int | None:
        """Bytes of [start, end) that are in memory; None where the kernel does not say."""

    def cache_room(self) -> int | None:
        """Bytes of memory that can be had without pushing out what is in use; None = not known."""


class Control(Protocol):
    """A body's line to the outside while it works on one chunk or one undo."""

    def quantum(self, position: int) -> bool:
        """Say that all before `position` is done; True = stop here.

        Called after each quantum, about 1 ms of work and at most 8 MiB.
        """

    def prior(self, start: int, end: int, holes: Sequence[tuple[int, int]]) -> None:
        """Report what [start, end) holds before it is written.

        `holes` are the parts that read as zeros and take no space, ascending.
        Sent before the first write, so that it outlives this process.
        """

    def rest(self, wanted: int) -> bool:
        """Sleep until descriptor `wanted` can be read, counting as nobody that works.

        For open-ended functions, between two calls. True = it can be read, and the chunk counts as
        in work again; False = there is something else to do, so that the chunk is to be ended.
        """


class Context:
    """What a body is given: arguments with defaults filled in, and sources."""

    def __init__(
        self,
        arg: Mapping[str, ArgValue],
        sources: Mapping[str, OpenSource],
        items: Mapping[int, OpenSource],
        span: tuple[int, int],
        whole: bool,
    ) -> None:
        """Hold them.

        Args:
            sources: by role.
            items: by position, those of the chunk at hand.
            span: first position and position after the last of the whole job.
            whole: the job named no ranges, so it covers its first source.
        """
        self.arg = arg
        self.sources = sources
        self.items = items
        self.span = span
        self.whole = whole
        self.combined: Json = {}
        """What combine has made of all parts; for finish."""


class Body:
    """Base of all bodies; each overrides what its declaration promises."""

    def prepare(self, context: Context) -> Json:
        """Before the first chunk, on one worker; changes nothing.

        The result goes to begin, finish and restore.

        Returns:
            Anything, and "by_prepare" and "by_finish": lists of [start, end) that
            begin will change, and that finish will.
        """
        return {}

    def begin(self, context: Context, prepared: Json) -> None:
        """Right after prepare, on the same worker: change what has to be before the first chunk.

        Where it fails or its worker dies, restore takes it back, however far it came.
        """

    def run(self, context: Context, start: int, end: int, control: Control) -> tuple[int, Json | None]:
        """Process [start, end), or as far as control says.

        Returns:
            The position reached (== end unless stopped), and the JSON result
            of [start, reached), None where the function has none.
        Raises:
            OSError, ValueError: the chunk failed. What the body may have changed
                lies in [start, last quantum): it has put back the rest, or said
                one quantum more. The worker undoes that span itself where the
                function has an undo, else it is dirty.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def undo(
        self, context: Context, start: int, end: int, holes: Sequence[tuple[int, int]], control: Control
    ) -> Sequence[tuple[int, int]]:
        """Put [start, end) back; `holes` are what prior reported inside it.

        Returns:
            The parts that could not be put back.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def combine(self, context: Context, parts: Sequence[Json]) -> Json:
        """One result of adjacent results, ascending. Must be associative.

        Names that begin with "_" are for finish, and not told.
        """
        raise NotImplementedError  # declared, so a body overrides it

    def finish(self, context: Context, prepared: Json, control: Control) -> Json | None:
        """After all chunks succeeded, on one worker; told to control, as an undo is.

        Returns:
            Values of the result that are others by now; None = it stays as it was combined.
        """

    def restore(self, context: Context, prepared: Json) -> None:
        """After the undo of all chunks, on one worker: take prepare back."""

    def wipe(self) -> None:
        """Erase what it keeps of the jobs so far: the next one is another user's."""
