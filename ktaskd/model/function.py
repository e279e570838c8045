"""What a thread function declares of itself (DESIGN of a job's cut and undo).

The daemon reads declarations only; bodies are loaded in workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, Flag, auto

ArgValue = int | float | bool | str


class Access(Flag):
    """What is done with a source, or allowed by its file descriptor."""

    READ = auto()
    WRITE = auto()
    READ_WRITE = READ | WRITE

    def __str__(self) -> str:
        """In the words of messages: "read", "write" or "read and write"."""
        names = {Access.READ: "read", Access.WRITE: "write"}
        return names.get(self, "read and write")


class Partial(Enum):
    """What can be done about a chunk whose worker died in it."""

    RERUN_SAFE = "rerun_safe"
    """It can be run again from its start; where there is an undo, that takes it back
    half done as well. Its undo, finish and restore can be done again, too."""
    UNDO_TOLERATES = "undo_tolerates"
    """It cannot be run again, but undone, once. Its undo puts back everything before
    the position that it says it has reached."""
    NONE = "none"
    """Nothing: its range is dirty."""


class ArgType(Enum):
    """Type of an argument."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class SourceRole:
    """One source that a function wants."""

    role: str
    access: Access
    summary: str
    memory_only: bool = False
    """True if only memory (memfd, tmpfs, hugetlbfs) makes sense, not a file on disk."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument; `default` None means that it must be given.

    Args:
        minimum, maximum: of a number, both included; None = no bound.
        choices: the only values of a string; empty = any.
    """

    name: str
    type: ArgType
    default: ArgValue | None
    summary: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Native:
    """Code of an administrator's library, called as ktask called thread functions.

    Args:
        library: absolute path of the .so.
        symbol, undo: names in it; undo "" = none.
        fd: the library as it was looked at, which is what workers load; -1 = not opened here.
    """

    library: str
    symbol: str
    undo: str = ""
    fd: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Declaration:
    """All that is known of a thread function without loading it.

    Args:
        unit: what a position is, for people.
        bytes_per_position: 1 for byte functions, 0 where positions have no
            size.
        align: interior chunk edges are multiples of this, in positions.
        min_chunk: default smallest chunk, in positions.
        probe: first chunk of a job, in positions, from which its rate is
            learned; never below min_chunk.
        sources: the first one gives the position space; none means that
            positions come from the ranges alone.
        writes_bytes: whether a completed chunk changed what a reader sees; a
            job that fails without undo is dirty only then.
        reports: whether it tells what a span holds before it changes anything in
            it, so that where nothing was told nothing has changed.
        items: whether spec.items may stand for the first source, a position
            then being one item.
        whole_files: a position is a whole file, since what is worked out of it cannot be
            put together from parts; a first source that is given by its role is the one item.
        record: the integer argument that gives the bytes of one position: those of the
            first source are its records, each with a result of its own that is told in
            order, as of items; "" = positions are bytes.
        needs: modules that its body loads;
            where one is missing, the function is unavailable.
        grows: ranges may reach beyond the end of the first source, which prepare makes
            that long.
        boundary: the integer argument that gives the record size in positions;
            "" = cut anywhere that align allows.
        lifecycle: whether prepare runs before the first chunk, and finish or
            restore after the last one.
        long_finish: its finish takes so long that a cancel breaks it off; restore takes back
            what it has done.
        selftest: offered only by `ktaskd --selftest`.
        unavailable: why it cannot be run here; "" = it can.
        native, plugin: whose code it is, where it is none of ours: a library's, or that of
            an installed package. A worker that has run it ends with the job, since nobody
            knows what it leaves behind.
        own: its code comes from the caller, and is run for the daemon's own user only.
        steady: what it finds is of the sources that it reads as they are at one time, so one
            that changes meanwhile is reported; the argument "changed" says how.
        ranges_only: positions come from the ranges alone, whatever sources there are.
        open_ended: its positions are turns, of which there are as many as it takes: the one
            whose result has "last" is the last one that is begun, and one whose worker has
            died is over.
    """

    name: str
    summary: str
    unit: str = "byte"
    bytes_per_position: int = 1
    align: int = 1
    min_chunk: int = 1
    probe: int = 1
    sources: tuple[SourceRole, ...] = ()
    arguments: tuple[Argument, ...] = ()
    allocates: bool = False
    partial: Partial = Partial.NONE
    writes_bytes: bool = False
    undo: bool = False
    undo_summary: str = ""
    reports: bool = False
    combine: bool = False
    grows: bool = False
    boundary: str = ""
    items: bool = False
    whole_files: bool = False
    record: str = ""
    needs: tuple[str, ...] = ()
    lifecycle: bool = False
    long_finish: bool = False
    selftest: bool = False
    unavailable: str = ""
    native: Native | None = None
    plugin: str = ""
    own: bool = False
    steady: bool = False
    ranges_only: bool = False
    open_ended: bool = False

    @property
    def foreign(self) -> bool:
        """Whether its code is not ours."""
        return self.native is not None or bool(self.plugin) or self.own

    @property
    def writes(self) -> bool:
        """Whether it writes any source."""
        return any(Access.WRITE in source.access for source in self.sources)
