"""`ktask compress` and `ktask decompress`."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable
from typing import IO, Any

from ktask import convert
from ktask.cli.archives.frame_reader import FrameReader
from ktask.cli.archives.names import compressed_name, format_of, plain_name
from ktask.cli.archives.newfile import NewFile
from ktask.cli.archives.pieces import PIECES_AHEAD, in_memory, pieces, worked
from ktask.cli.arguments import UsageError
from ktask.cli.bar import drawer_for
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.output import print_warnings
from ktask.cli.streams import DASH, Output, input_source, temporary_file
from ktask.cli.text import list_warnings
from ktask.core import Draft
from ktask.errors import JobFailed, KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.results import JobState
from ktask.source import kind_name

_COPY = 1 << 20

_FRAME_MIN, _FRAME_MAX = 64 << 10, 64 << 20
"""Bytes of a frame that file.compress accepts."""

_WARNED = 2
"""Exit status of gzip(1) after a warning."""


def compress(options: argparse.Namespace) -> int:
    """Compress each file, or standard input."""
    options.format = options.format or "zstd"
    return _each(options, _Compressor)


def decompress(options: argparse.Namespace) -> int:
    """Decompress each file, or standard input."""
    return _each(options, _Decompressor)


def _each(options: argparse.Namespace, kind: Callable[[argparse.Namespace, Session], _Archiver]) -> int:
    """Do all files; one that fails does not stop the others."""
    status = DONE
    names = options.files or [DASH]
    if options.output == DASH or (options.output is None and (options.stdout or DASH in names)):
        _check_output(options)
    warned = False
    rest = list(reversed(names))
    while rest:
        # A stream that fails closes its session, which ends the jobs of its other pieces.
        with contextlib.closing(open_session(options.socket, warn=warn)) as session:
            archiver = kind(options, session)
            while rest and (fine := _try(archiver, rest.pop(), options)):
                pass
            status = status if fine else FAILED
            warned = warned or archiver.warned
    return _WARNED if warned and status == DONE else status


def _try(archiver: _Archiver, name: str, options: argparse.Namespace) -> bool:
    """Do one file, and report why it failed; return whether it did not."""
    try:
        archiver.do(os.fsencode(name))
    except BrokenPipeError:
        raise
    except OSError as error:
        what = os.fsdecode(error.filename) if error.filename is not None else name
        complain(f"{options.command}: {what}: {error.strerror or error}", FAILED)
        return False
    except (KtaskError, UsageError) as error:
        complain(f"{options.command}: {name}: {error}", FAILED)
        return False
    return True


def _check_output(options: argparse.Namespace) -> None:
    if sys.stdout is None:
        raise UsageError("standard output: it is closed")
    if options.command == "compress" and sys.stdout.isatty() and not options.force:
        raise UsageError("standard output: compressed data is not for a terminal; redirect it, or use -f")


class _Archiver:
    """The parts that are the same in both directions."""

    function = ""

    def __init__(self, options: argparse.Namespace, session: Session) -> None:
        self._options, self._session = options, session
        self.warned = False
        # With a limit of workers only one job at a time may have them.
        self._ahead = 1 if options.threads else PIECES_AHEAD

    def do(self, name: bytes) -> None:
        """Do one file, or standard input; raises OSError, KtaskError, UsageError."""
        is_input = name == os.fsencode(DASH)
        with contextlib.ExitStack() as end:
            if self._options.output in (None, DASH) and (
                is_input or self._options.stdout or self._options.output
            ):
                fd = _input_fd() if is_input else end.enter_context(self._opened(name)).fileno()
                self.stream(fd, end)
                return
            source = input_source("-", end) if is_input else end.enter_context(self._opened(name))
            target = self._options.output
            self._to_file(source, name, os.fsencode(target) if target else self.target(name), is_input)

    def _to_file(self, source: Any, name: bytes, target: bytes, is_input: bool) -> None:
        status = None if is_input else os.fstat(source.fileno())
        removes = not is_input and self.removes(name)
        if status is not None and os.path.exists(target) and os.path.samestat(status, os.stat(target)):
            raise UsageError("is its own new file; -o gives another name")
        if removes and status is not None and status.st_nlink > 1 and not self._options.force:
            raise UsageError(f"has {status.st_nlink - 1} other links; -k keeps it, -f removes this one")
        # A source that is removed in the end must not have changed after it was read.
        changed = "fail" if removes else "warn"
        with NewFile(target, replace=self._options.force) as new:
            self.job(source, new.file, changed, progress=not self._options.quiet)
            new.complete(status, sync=removes)
        if removes and os.path.samestat(os.fstat(source.fileno()), os.lstat(name)):
            os.unlink(name)

    def job(self, source: Any, target: Any, changed: str = "warn", *, progress: bool = False) -> None:
        """Run the job of one source; raises KtaskError.

        Args:
            changed: what happens if the source changes meanwhile.
        """
        drawer = drawer_for(sys.stderr, "auto" if progress else "off")
        sources = {"src": source, "dst": target}
        arg = {**self.arg(), "changed": changed}
        draft = Draft(self.function, arg=arg, sources=sources, max_threads=self._options.threads)
        try:
            job = convert.job(self._session.run(draft, on_job=drawer))
        finally:
            if drawer is not None:
                drawer.clear()
        if job.state is not JobState.SUCCEEDED:
            raise JobFailed(job)
        print_warnings(list_warnings(job))
        if garbage := (job.result or {}).get("garbage"):
            self.warned = True
            warn(f"{self._options.command}: trailing garbage ignored ({garbage} bytes)")

    def _opened(self, name: bytes) -> IO[bytes]:
        options = self._options
        return _opened(name, follow=options.force or options.stdout or options.output == DASH)

    def _made(self, piece: IO[bytes]) -> IO[bytes]:
        """The result of a piece, in a file in memory."""
        result = in_memory()
        try:
            self.job(piece, result)
        except BaseException:
            result.close()
            raise
        return result

    def arg(self) -> dict[str, Any]:
        """The arguments of its job."""
        raise NotImplementedError

    def target(self, name: bytes) -> bytes:
        """The name of the new file; raises UsageError."""
        raise NotImplementedError

    def removes(self, name: bytes) -> bool:
        """Whether a file is removed in the end."""
        raise NotImplementedError

    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Write the result for a descriptor to standard output."""
        raise NotImplementedError


class _Compressor(_Archiver):
    function = "file.compress"

    def arg(self) -> dict[str, Any]:
        found = {"format": self._options.format, "level": self._options.level}
        if self._options.long is None:
            return found
        return {**found, "frame": min(max(1 << self._options.long, _FRAME_MIN), _FRAME_MAX)}

    def target(self, name: bytes) -> bytes:
        if self._options.format == "gzip" and format_of(name) == "gzip":
            raise UsageError("has the suffix of gzip already; -o gives another name")
        return compressed_name(name, self._options.format)

    def removes(self, name: bytes) -> bool:
        kept = self._options.keep or self._options.output is not None
        return bool(self._options.rm or (self._options.format == "gzip" and not kept))

    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Compress piece by piece: each becomes frames or members of its own."""
        for packed in worked(self._session, pieces(fd), self._made, self._ahead):
            with packed:
                _send(packed)


class _Decompressor(_Archiver):
    function = "file.decompress"

    def arg(self) -> dict[str, Any]:
        found = {"format": self._options.format or "auto"}
        return found if self._options.long is None else {**found, "window_log": self._options.long}

    def target(self, name: bytes) -> bytes:
        found = plain_name(name)
        if found is None:
            raise UsageError("unknown suffix, ignored; wanted .zst, .tzst, .gz or .tgz, or -o with a name")
        return found

    def removes(self, name: bytes) -> bool:
        kept = self._options.keep or self._options.output is not None
        return bool(self._options.rm or (format_of(name) == "gzip" and not kept))

    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Decompress groups of frames as they come, and what has none by way of a temporary file."""
        is_whole = stat.S_ISREG(os.fstat(fd).st_mode) and not os.lseek(fd, 0, os.SEEK_CUR)
        reader = FrameReader(fd)
        if self._options.format != "gzip":
            for plain in worked(self._session, reader, self._made, self._ahead):
                with plain:
                    _send(plain)
        if not reader.rest and reader.skipped:
            return
        if not reader.groups and is_whole:
            self._decompress_whole(end.enter_context(os.fdopen(os.dup(fd), "rb", buffering=0)), end)
        elif not reader.groups or reader.rest:
            self._decompress_whole(_spooled(bytes(reader.rest), fd, end), end)

    def _decompress_whole(self, source: IO[bytes], end: contextlib.ExitStack) -> None:
        output = Output(end)
        self.job(source, output.file)
        output.send()


def _spooled(begun: bytes, fd: int, end: contextlib.ExitStack) -> IO[bytes]:
    """A temporary file with what was read of a stream, and the rest of it."""
    source = end.enter_context(temporary_file())
    source.write(begun)
    while data := os.read(fd, _COPY):
        source.write(data)
    source.flush()
    return source


def _input_fd() -> int:
    if sys.stdin is None:
        raise UsageError("standard input: it is closed")
    return sys.stdin.fileno()


def _opened(name: bytes, *, follow: bool) -> IO[bytes]:
    """A regular file, open for reading; raises OSError.

    Args:
        follow: open the file that a link names; otherwise a link is refused.
    """
    # O_NONBLOCK: do not wait for a fifo.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(name, flags | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            text = "is a link, ignored; -f follows it, -c writes to standard output"
            raise OSError(errno.ELOOP, text, os.fsdecode(name)) from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise OSError(errno.EINVAL, f"is a {kind_name(mode)}, ignored; wanted a regular file")
    return os.fdopen(fd, "rb", buffering=0)


def _send(packed: IO[bytes]) -> None:
    """Write a file in memory to standard output; raises OSError."""
    packed.seek(0)
    sys.stdout.flush()
    while data := packed.read(_COPY):
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
