"""Standard input and output as sources, named "-"."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Literal

from ktask.cli.arguments import UsageError
from ktask.source import kind_name
from ktask.v1 import jobs_pb2 as pb

DASH = "-"

_SMALL = 64 << 10
"""Bytes up to which a file that occupies no block may be one of /sys, which has no true length."""


class _Descriptor:
    """Standard input that stays open, as a source."""

    name = DASH

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def named(fd: int, name: bytes, mode: Literal["rb", "r+b"]) -> IO[bytes]:
    """A file that owns this descriptor, with the name by which a job's files are shown."""
    file: IO[bytes] = open(name, mode, buffering=0, opener=lambda *_: fd)  # noqa: SIM115 - the caller's
    return file


def input_source(what: str, end: contextlib.ExitStack) -> _Descriptor | IO[bytes]:
    """Standard input as a source; input from a pipe is copied to a temporary file first.

    Args:
        what: names the source in messages.
        end: closes the temporary file, which has no name.
    Raises:
        UsageError: standard input is closed or cannot be read.
    """
    fd = standard_input()
    try:
        # If the offset is not 0, the input is only the rest of the file, and is copied.
        if stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
            return _Descriptor(fd)
        spool = end.enter_context(temporary_file())
        with os.fdopen(fd, "rb", closefd=False) as source:
            shutil.copyfileobj(source, spool, 1 << 20)
        spool.flush()
        return spool
    except OSError as error:
        raise UsageError(f"{what}: standard input: {error.strerror}") from None


def spool(file: IO[bytes], end: contextlib.ExitStack) -> IO[bytes]:
    """A temporary file with what can still be read from this one.

    Args:
        end: closes it; it has no name.
    Raises:
        OSError: the file cannot be read.
    """
    copy = end.enter_context(temporary_file())
    shutil.copyfileobj(file, copy, 1 << 20)
    copy.flush()
    return copy


def open_any(name: bytes, end: contextlib.ExitStack) -> Any:
    """Open a file to be read to its end; that of no regular file goes to a temporary one first.

    Raises:
        OSError: it cannot be opened or read, or is a directory.
        UsageError: standard input is closed.
    """
    if name == os.fsencode(DASH):
        return input_source("-", end)
    file = end.enter_context(open(name, "rb", buffering=0))  # noqa: SIM115 - closed by `end`
    return file if has_length(file.fileno()) else spool(file, end)


def has_length(fd: int) -> bool:
    """Whether the content of a file is as long as its status says, which is not so in /proc and /sys."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_size and (status.st_blocks or status.st_size > _SMALL):
        return True
    return not status.st_size and not os.pread(fd, 1, 0)


def read_whole(path: str) -> bytes:
    """The content of a file, or of standard input for "-"; raises OSError, UsageError."""
    with open(standard_input() if path == DASH else path, "rb", closefd=path != DASH) as file:
        return file.read()


def input_file() -> int:
    """The descriptor of standard input, which must be a regular file; raises UsageError."""
    fd = standard_input()
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        raise UsageError(f"standard input: got a {kind_name(kind)}, wanted a regular file")
    return fd


def standard_input() -> int:
    """Its descriptor; raises UsageError if it was closed, since another file may have its number."""
    if sys.stdin is None:
        raise UsageError("standard input: it is closed")
    return sys.stdin.fileno()


def temporary_file() -> IO[bytes]:
    """A file without a name, which no other process can open."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
    return file


class Streams:
    """Replaces "-" in one command: by standard input for a source, by standard output for a target."""

    def __init__(self, function: pb.Function, end: contextlib.ExitStack) -> None:
        """Nothing is replaced yet; `end` closes temporary files."""
        self.output: Output | None = None
        self._function = function
        self._end = end
        self._taken = ""

    def sources(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Sources by role with each "-" replaced; raises UsageError if it can be neither stream."""
        accesses = {source.role: source.access for source in self._function.sources}
        first = self._function.sources[0].role if self._function.sources else ""
        return {
            role: self._stream(role, accesses.get(role), role == first) if source == DASH else source
            for role, source in given.items()
        }

    def items(self, given: Sequence[str]) -> list[Any]:
        """Items with "-" replaced."""
        return [self._input(f"items[{i}]") if item == DASH else item for i, item in enumerate(given)]

    def _stream(self, role: str, access: int | None, is_first: bool) -> Any:
        what = f'source "{role}"'
        if access == pb.ACCESS_READ:
            return self._input(what)
        if access is None or is_first:
            raise UsageError(
                f'{what}: got "-", wanted a path: "{self._function.name}" changes an existing file'
            )
        if self.output is not None:
            raise UsageError(f'{what}: got "-", but standard output is another target already')
        self.output = Output(self._end)
        return self.output.file

    def _input(self, what: str) -> Any:
        if self._taken:
            raise UsageError(f'{what}: got "-", but standard input is {self._taken} already')
        self._taken = what
        return input_source(what, self._end)


class Output:
    """Standard output as a target: a temporary file without a name, copied there at the end."""

    def __init__(self, end: contextlib.ExitStack) -> None:
        """Create the temporary file; `end` closes it. Raises UsageError."""
        if sys.stdout is None:
            raise UsageError("standard output: it is closed")
        self.file = end.enter_context(temporary_file())

    def send(self) -> None:
        """Copy all to standard output; raises OSError."""
        sys.stdout.flush()
        with open(self.file.fileno(), "rb", closefd=False) as whole:
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
