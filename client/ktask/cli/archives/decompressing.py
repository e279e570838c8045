"""Decompresses files and streams."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import IO, Any

from ktask.cli.archives.archiver import Archiver
from ktask.cli.archives.frame_reader import FrameReader
from ktask.cli.archives.names import format_of, plain_name
from ktask.cli.archives.pieces import send, worked
from ktask.cli.arguments import UsageError
from ktask.cli.streams import Output, temporary_file
from ktask.errors import JobFailed, KtaskError

_COPY = 1 << 20


class Decompressor(Archiver):
    """Decompresses files and streams."""

    function = "file.decompress"

    def arg(self) -> dict[str, Any]:
        """Format and the largest window."""
        found = {"format": self.options.format or "auto"}
        return found if self.options.long is None else {**found, "window_log": self.options.long}

    def target(self, name: bytes) -> bytes:
        """The name without the suffix; raises UsageError."""
        found = plain_name(name)
        if found is None:
            raise UsageError("unknown suffix, ignored; wanted .zst, .tzst, .gz or .tgz, or -o with a name")
        return found

    def format_of(self, name: bytes) -> str:
        """The format that the suffix stands for; "" if it is not known."""
        return format_of(name)

    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Decompress groups of frames as they come, and what has none by way of a temporary file."""
        is_whole = stat.S_ISREG(os.fstat(fd).st_mode) and not os.lseek(fd, 0, os.SEEK_CUR)
        reader = FrameReader(fd)
        if self.options.format != "gzip":
            with _counted_from(reader):
                for plain in worked(self.session, reader, self.made, self.ahead):
                    reader.starts.popleft()
                    with plain:
                        send(plain)
        if not reader.rest and reader.skipped:
            return
        if not reader.position and is_whole:
            self._decompress_whole(end.enter_context(os.fdopen(os.dup(fd), "rb", buffering=0)), end)
        elif not reader.position or reader.rest:
            with _counted_from(reader):
                self._decompress_whole(_spooled(bytes(reader.rest), fd, end), end)

    def _decompress_whole(self, source: IO[bytes], end: contextlib.ExitStack) -> None:
        output = Output(end)
        self.job(source, output.file)
        output.send()


@contextlib.contextmanager
def _counted_from(reader: FrameReader) -> Iterator[None]:
    """Add to the error of a job where its part of the stream begins, since its positions count from there."""
    try:
        yield
    except JobFailed as error:
        start = reader.starts[0] if reader.starts else reader.position
        if not start:
            raise
        text = f"{error} (positions count from byte {start} of the stream)"
        raise KtaskError(text, reason=error.reason) from None


def _spooled(begun: bytes, fd: int, end: contextlib.ExitStack) -> IO[bytes]:
    """A temporary file with what was read of a stream, and the rest of it."""
    source = end.enter_context(temporary_file())
    source.write(begun)
    while data := os.read(fd, _COPY):
        source.write(data)
    source.flush()
    return source
