"""What a job works on: memory, files, and descriptors that somebody else opened."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

Mode = Literal["r", "rw"]

_MFD_NOEXEC_SEAL = 0x8
"""Asked for since Linux 6.3, which complains without it. Source: memfd_create(2)."""
_NAME_BYTES_MAX = 249
"""Source: memfd_create(2)."""

_CREATE_MODE = 0o666


class Leased:
    """Something whose descriptor daemons keep as long as it is open."""

    def __init__(self) -> None:
        """Nobody has it yet."""
        self._on_close: list[weakref.WeakMethod[Callable[[Any], None]]] = []

    def call_on_close(self, function: Callable[[Any], None]) -> None:
        """Have `function(self)` called when it is closed; a bound method is held weakly."""
        self._on_close.append(weakref.WeakMethod(function))

    def _tell_closed(self) -> None:
        waiting, self._on_close = self._on_close, []
        for reference in waiting:
            function = reference()
            if function is not None:
                function(self)


class Memory(mmap.mmap, Leased):
    """Memory that jobs work on, and that this process has mapped.

    A memfd of exactly `len(self)` bytes, sealed against shrinking and growing,
    mapped shared and writable. `memoryview(m)` and `numpy.frombuffer(m, ...)`
    work without a copy. A job on it sees what was written here, and what it
    writes is seen here. A daemon keeps the memory until `close`, or until this
    object is gone.

    Attributes:
        fd: the memfd, owned by this object; -1 when closed.
        name: its name in /proc, for display.
    """

    fd: int
    name: str
    _release: weakref.finalize[[int], Memory]

    def __new__(cls, nbytes: int, *, name: str = "ktask") -> Self:
        """Make the memfd and map it; `memory` says what can go wrong."""
        fd = _sealed_memfd(name, nbytes)
        try:
            self = super().__new__(cls, fd, nbytes)
        except BaseException:
            os.close(fd)
            raise
        self.fd, self.name = fd, name
        self._release = weakref.finalize(self, os.close, fd)
        return self

    def __init__(self, nbytes: int, *, name: str = "ktask") -> None:
        """See __new__."""
        Leased.__init__(self)

    def fileno(self) -> int:
        """The memfd; raises ValueError when closed."""
        if self.fd < 0:
            raise ValueError(f'memory "{self.name}": closed')
        return self.fd

    def close(self) -> None:
        """Unmap it, and have daemons give it back; a second time does nothing.

        Raises:
            BufferError: a memoryview or an array still uses it; nothing changed.
        """
        super().close()
        self.fd = -1
        self._tell_closed()
        self._release()

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Name and size."""
        state = "closed" if self.fd < 0 else f"{len(self)} bytes"
        return f"<ktask.Memory {self.name!r}: {state}>"


def memory(nbytes: int, *, name: str = "ktask") -> Memory:
    """Memory of exactly `nbytes` bytes, all zero, for jobs to work on.

    Pages take room when they are first touched.

    Args:
        nbytes: its size, at least 1.
        name: shown in /proc; at most 249 bytes.
    Raises:
        TypeError, ValueError: an argument is no such thing.
        OSError: the system has no room for it.
    """
    return Memory(nbytes, name=name)


def _sealed_memfd(name: str, nbytes: int) -> int:
    """A memfd of `nbytes` bytes that keeps its size; the caller owns it."""
    if isinstance(nbytes, bool) or not isinstance(nbytes, int):
        raise TypeError(f"nbytes: got {nbytes!r}, wanted an int")
    if nbytes < 1:
        raise ValueError(f"nbytes: got {nbytes}, wanted at least 1")
    if "\0" in name or len(os.fsencode(name)) > _NAME_BYTES_MAX:
        raise ValueError(f"name: got {name!r}, wanted at most {_NAME_BYTES_MAX} bytes, none of them 0")
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(name, flags)
    try:
        os.ftruncate(fd, nbytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd


class File(Leased):
    """A regular file, opened as this process for jobs to work on.

    Nobody may use the file offset of `fd`: the daemon moves it.

    Attributes:
        fd: the descriptor, owned by this object; -1 when closed.
        path: what was opened.
        mode: "r" or "rw"; "w" where only writing was asked for.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[Any],
        mode: str,
        flags: int,
        create_mode: int = _CREATE_MODE,
    ) -> None:
        """Open it with `flags`; `file` is the way to call this."""
        super().__init__()
        self.path = os.fsdecode(path)
        self.mode = mode
        self.fd = -1
        # O_NONBLOCK: a pipe is opened, and refused below, instead of waited for.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, create_mode)
        self._release = weakref.finalize(self, os.close, fd)
        self.fd = fd
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind):
            self.close()
            raise ValueError(f'file "{self.path}": got a {kind_name(kind)}, wanted a regular file')

    @property
    def size(self) -> int:
        """Its length in bytes now."""
        return os.fstat(self.fileno()).st_size

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.fd < 0

    def fileno(self) -> int:
        """The descriptor; raises ValueError when closed."""
        if self.fd < 0:
            raise ValueError(f'file "{self.path}": closed')
        return self.fd

    def close(self) -> None:
        """Close it, here and in daemons that hold it; a second time does nothing."""
        if self.fd < 0:
            return
        self.fd = -1
        self._tell_closed()
        self._release()

    def __enter__(self) -> Self:
        """Close it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Path and mode."""
        return f"<ktask.File {self.path!r} {self.mode!r}{' closed' if self.closed else ''}>"


def file(path: str | bytes | os.PathLike[Any], mode: Mode = "r") -> File:
    """Open a regular file for jobs to work on.

    Args:
        mode: "r" to read it; "rw" to read and write it, made if missing
            (0666 less the umask).
    Raises:
        ValueError: not a regular file, or another mode.
        OSError: it cannot be opened so.
    """
    if mode == "r":
        return File(path, mode, os.O_RDONLY)
    if mode == "rw":
        return File(path, mode, os.O_RDWR | os.O_CREAT)
    raise ValueError(f'mode: got {mode!r}, wanted "r" or "rw"')


@dataclass(frozen=True, slots=True)
class Handle:
    """A source that was handed over already, as by `ktask hold`."""

    handle: str


@runtime_checkable
class HasFileno(Protocol):
    """Something open. A job leaves its file offset alone."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


Source = Memory | File | Handle | HasFileno | str | bytes | os.PathLike[str]
"""All that may be given as a source.

A path is opened by the library, as the caller and with the access that the
function declares. Something else with a fileno() is flushed first if it can be,
and its offset is neither used nor moved.
"""


def is_memory(source: Any) -> bool:
    """Whether its pages are its only copy, and so live on NUMA nodes."""
    if isinstance(source, Memory):
        return True
    if isinstance(source, str | bytes | os.PathLike | File) or not isinstance(source, HasFileno):
        return False
    try:
        fcntl.fcntl(source.fileno(), fcntl.F_GET_SEALS)
    except OSError:
        return False
    return True


def check_source(what: str, source: Any) -> None:
    """Raise TypeError unless `source` is something that can be handed over."""
    if isinstance(source, bool | int):
        raise TypeError(f"{what}: got {source!r}, wanted an object with fileno(), not a bare number")
    if not isinstance(source, str | bytes | os.PathLike | Handle | HasFileno):
        raise TypeError(
            f"{what}: got {type(source).__name__}, wanted ktask.memory, ktask.file, a path, "
            "ktask.Handle or an object with fileno()"
        )
    if isinstance(source, str | bytes | os.PathLike) and not os.fspath(source):
        raise ValueError(f"{what}: got an empty path, wanted the path of a file")


def kind_name(mode: int) -> str:
    """What kind of file has this mode, for people."""
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
