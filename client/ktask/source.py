"""Sources of a job: memory, files, and objects with a descriptor."""

from __future__ import annotations

import errno
import fcntl
import io
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
"""Linux logs a warning without it since 6.3. Source: memfd_create(2)."""
_NAME_BYTES_MAX = 249
"""Source: memfd_create(2)."""

_CREATE_MODE = 0o666


class Leased:
    """An object whose descriptor daemons keep as long as it is open."""

    def __init__(self) -> None:
        """No daemon has it yet."""
        self._on_close: list[weakref.WeakMethod[Callable[[Any], None]]] = []

    def call_on_close(self, function: Callable[[Any], None]) -> None:
        """Call `function(self)` on close; the bound method is held weakly."""
        self._on_close.append(weakref.WeakMethod(function))

    def _report_closed(self) -> None:
        waiting, self._on_close = self._on_close, []
        for reference in waiting:
            function = reference()
            if function is not None:
                function(self)


class Memory(mmap.mmap, Leased):
    """Memory that jobs work on, and that this process has mapped.

    A memfd of exactly `len(self)` bytes, sealed against shrinking and growing,
    mapped shared and writable. `memoryview(m)` and `numpy.frombuffer(m, ...)`
    work without a copy. A job sees what this process writes, and this process
    sees what the job writes. A daemon keeps the memory until `close`, or until
    this object is collected.

    Attributes:
        fd: the memfd, owned by this object; -1 when closed.
        name: its name in /proc, for display.
    """

    fd: int
    name: str
    _release: weakref.finalize[[int], Memory]

    def __new__(cls, nbytes: int, *, name: str = "ktask") -> Self:
        """Make the memfd and map it; raises as `memory`."""
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
        """Unmap it, and have daemons release it; a second call does nothing.

        Raises:
            BufferError: a memoryview or an array still uses it; nothing was changed.
        """
        super().close()
        self.fd = -1
        self._report_closed()
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

    Its pages are allocated when they are first touched.

    Args:
        nbytes: its size, at least 1.
        name: shown in /proc; at most 249 bytes.
    Raises:
        TypeError, ValueError: an argument is invalid.
        OSError: the system cannot provide the memory.
    """
    return Memory(nbytes, name=name)


def _sealed_memfd(name: str, nbytes: int) -> int:
    """Make a memfd of `nbytes` bytes whose size is sealed; the caller owns it."""
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
    """A regular file, opened with the rights of this process for jobs to work on.

    Do not use the file offset of `fd`: the daemon moves it.

    Attributes:
        fd: the descriptor, owned by this object; -1 when closed.
        path: what was opened.
        mode: "r" or "rw"; "w" if it was opened only for writing.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[Any],
        mode: str,
        flags: int,
        create_mode: int = _CREATE_MODE,
    ) -> None:
        """Open it with `flags`; programs call `file` instead."""
        super().__init__()
        self.path = os.fsdecode(path)
        self.mode = mode
        self.fd = -1
        # O_NONBLOCK: a pipe is opened at once and refused below.
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, create_mode)
        self._release = weakref.finalize(self, os.close, fd)
        self.fd = fd
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind):
            self.close()
            raise ValueError(f'file "{self.path}": got a {kind_name(kind)}, wanted a regular file')

    @property
    def size(self) -> int:
        """Its current length in bytes."""
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
        """Close it, here and in daemons that hold it; a second call does nothing."""
        if self.fd < 0:
            return
        self.fd = -1
        self._report_closed()
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
        mode: "r" to read it; "rw" to read and write it, which creates a missing file
            (0666 less the umask).
    Raises:
        ValueError: the file is not regular, or the mode is another one.
        OSError: the file cannot be opened with this mode.
    """
    if mode == "r":
        return File(path, mode, os.O_RDONLY)
    if mode == "rw":
        return File(path, mode, os.O_RDWR | os.O_CREAT)
    raise ValueError(f'mode: got {mode!r}, wanted "r" or "rw"')


@dataclass(frozen=True, slots=True)
class Handle:
    """A source that was handed over already, for example by `ktask hold`."""

    handle: str


@runtime_checkable
class HasFileno(Protocol):
    """An object with an open descriptor. A job does not use its file offset."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


Source = Memory | File | Handle | HasFileno | str | bytes | os.PathLike[str]
"""Every type that a source may have.

The library opens a path with the caller's rights and the access that the function
declares. Another object with a fileno() is flushed first if it has a flush(), and
its offset is neither used nor moved.
"""


def is_memory(source: Any) -> bool:
    """Whether the source is memory, whose pages have no other copy and lie on NUMA nodes."""
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
    """Raise TypeError unless `source` can be handed over, and ValueError for an empty path."""
    if isinstance(source, Memory | File | Handle | io.IOBase):
        return  # the usual ones: to ask whether an object has a protocol takes 20 us
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
    """The kind of file that has this mode, in words."""
    kinds = {
        stat.S_IFDIR: "directory",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
