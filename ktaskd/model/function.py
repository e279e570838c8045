"""Declarations of thread functions: how their jobs are cut, run again and undone.

The daemon reads only declarations; workers load the bodies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, Flag, auto

ArgValue = int | float | bool | str


class Access(Flag):
    """Access to a source: what a function needs, or what a file descriptor allows."""

    READ = auto()
    WRITE = auto()
    READ_WRITE = READ | WRITE

    def __str__(self) -> str:
        """As in messages: "read", "write" or "read and write"."""
        names = {Access.READ: "read", Access.WRITE: "write"}
        return names.get(self, "read and write")


class Partial(Enum):
    """The remedy for a chunk whose worker died in it."""

    RERUN_SAFE = "rerun_safe"
    """The chunk can be run again from its start. An undo, if there is one, also works on a chunk
    that is half done. Undo, finish and restore can be repeated as well."""
    UNDO_TOLERATES = "undo_tolerates"
    """The chunk cannot be run again, but can be undone once. The undo puts back everything before
    the last position that the chunk reported."""
    NONE = "none"
    """Nothing can be done: its range is dirty."""


class ArgType(Enum):
    """Type of an argument."""

    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class SourceRole:
    """One source that a function uses."""

    role: str
    access: Access
    summary: str
    memory_only: bool = False
    """Only memory (memfd, tmpfs, hugetlbfs) is allowed, no file on disk."""
    one_writer: bool = False
    """If it is a file on a disk, the job has one worker: writes to a file wait for each other at the
    lock of its inode, and the function does little else."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument.

    Args:
        default: None = the argument is required.
        minimum, maximum: inclusive bounds of a number; None = no bound.
        choices: the allowed values of a string; empty = any.
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
    """Code of an administrator's library, called in the way that ktask called thread functions.

    Args:
        library: absolute path of the .so file.
        symbol, undo: names of its functions; undo "" = none.
        fd: the library that was checked, which workers load; -1 = not opened in this process.
    """

    library: str
    symbol: str
    undo: str = ""
    fd: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything that is known about a thread function without loading it.

    Args:
        unit: what a position is, for people.
        bytes_per_position: 1 for byte functions, 0 if positions have no size.
        align: interior chunk edges are multiples of this, in positions.
        min_chunk: default smallest chunk, in positions.
        probe: first chunk of a job, in positions, to measure its rate; at least min_chunk.
        sources: the first one defines the positions; without sources, positions come only from the
            ranges.
        allocates: it may allocate memory or storage.
        writes_bytes: a completed chunk changes what a reader sees; only then is a job dirty that
            fails without an undo.
        undo_summary: what the undo puts back, for people.
        reports: it reports what a span holds before it changes anything in it; a span without a
            report has not changed.
        combine: results of chunks are joined into one.
        grows: ranges may reach beyond the end of the first source, which prepare then extends.
        boundary: name of the integer argument with the record size in positions; "" = cut wherever
            align allows.
        items: spec.items may take the place of the first source; a position is then one item.
        whole_files: a position is a whole file, since its result cannot be combined from parts; a
            first source that is given by its role is the only item.
        record: name of the integer argument with the bytes of one position. Positions are then
            records of the first source, each with a result of its own, in order, like items;
            "" = positions are bytes.
        needs: modules that its body loads; if one is missing, the function is unavailable.
        lifecycle: prepare runs before the first chunk, and finish or restore after the last one.
        long_finish: a cancel may stop its finish, which can take long; restore then takes back what
            finish has done.
        selftest: offered only by `ktaskd --selftest`.
        unavailable: why it cannot run on this machine; "" = it can.
        native, plugin: for foreign code, the library or the installed package that it belongs to. A
            worker that has run it ends with the job, since it is not known what the code leaves behind.
        own: the code comes from the caller, and runs only for the daemon's own user.
        steady: its results describe its sources at one moment, so a source that changes meanwhile is
            reported, in the way that the argument "changed" says.
        ranges_only: positions come only from the ranges, whatever sources there are.
        quantum: most positions that its body works on between two calls of Control.quantum, if it can stop
            and continue at any multiple of `align`; its workers then hold leases. 0 = its workers get
            chunks, each of which is one whole call. Not with `boundary`.
        open_ended: the number of positions is not known in advance. The position whose result has
            "last" is the last one to begin. A position whose worker died is not run again.
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
    quantum: int = 0
    open_ended: bool = False

    @property
    def foreign(self) -> bool:
        """Whether its code is not part of ktaskd."""
        return self.native is not None or bool(self.plugin) or self.own

    @property
    def writes(self) -> bool:
        """Whether it writes any source."""
        return any(Access.WRITE in source.access for source in self.sources)
