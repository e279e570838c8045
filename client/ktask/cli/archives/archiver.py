"""Runs the job of one file or stream; compression and decompression say which."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from abc import ABC, abstractmethod
from typing import IO, Any

from ktask import convert
from ktask.cli.archives.newfile import NewFile
from ktask.cli.archives.pieces import PIECES_AHEAD, in_memory
from ktask.cli.arguments import UsageError
from ktask.cli.bar import drawer_for
from ktask.cli.batches import open_file
from ktask.cli.exits import warn
from ktask.cli.output import print_warnings
from ktask.cli.streams import DASH, standard_input
from ktask.cli.text import list_warnings
from ktask.core import Draft
from ktask.errors import JobFailed
from ktask.link.session import Session
from ktask.results import JobState


class Archiver(ABC):
    """Does one file or stream after the other; the parts that are the same in both directions."""

    function = ""

    def __init__(self, options: argparse.Namespace, session: Session) -> None:
        self.options, self.session = options, session
        self.warned = False
        # With a limit of workers only one job at a time may have them.
        self.ahead = 1 if options.threads else PIECES_AHEAD

    def do(self, name: bytes) -> None:
        """Do one file, or standard input; raises OSError, KtaskError, UsageError."""
        is_input = name == os.fsencode(DASH)
        with contextlib.ExitStack() as end:
            if self.options.output in (None, DASH) and (
                is_input or self.options.stdout or self.options.output
            ):
                fd = standard_input() if is_input else self._opened(name, end).fileno()
                self.stream(fd, end)
                return
            source = self._opened(name, end)
            target = self.options.output
            self._to_file(source, name, os.fsencode(target) if target else self.target(name), is_input)

    def _to_file(self, source: Any, name: bytes, target: bytes, is_input: bool) -> None:
        status = None if is_input else os.fstat(source.fileno())
        removes = not is_input and self._removes(name)
        if status is not None and os.path.exists(target) and os.path.samestat(status, os.stat(target)):
            raise UsageError("is its own new file; -o gives another name")
        if removes and status is not None and status.st_nlink > 1 and not self.options.force:
            raise UsageError(f"has {status.st_nlink - 1} other links; -k keeps it, -f removes this one")
        # A source that is removed in the end must not have changed after it was read.
        changed = "fail" if removes else "warn"
        with NewFile(target, replace=self.options.force) as new:
            self.job(source, new.file, changed, progress=not self.options.quiet)
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
        draft = Draft(self.function, arg=arg, sources=sources, max_threads=self.options.threads)
        try:
            job = convert.job(self.session.run(draft, on_job=drawer))
        finally:
            if drawer is not None:
                drawer.clear()
        if job.state is not JobState.SUCCEEDED:
            raise JobFailed(job)
        print_warnings(list_warnings(job))
        if garbage := (job.result or {}).get("garbage"):
            self.warned = True
            warn(f"{self.options.command}: trailing garbage ignored ({garbage} bytes)")

    def _opened(self, name: bytes, end: contextlib.ExitStack) -> Any:
        options = self.options
        return _opened(name, end, follow=options.force or options.stdout or options.output == DASH)

    def made(self, piece: IO[bytes]) -> IO[bytes]:
        """The result of a piece, in a file in memory."""
        result = in_memory()
        try:
            self.job(piece, result)
        except BaseException:
            result.close()
            raise
        return result

    @abstractmethod
    def arg(self) -> dict[str, Any]:
        """The arguments of its job."""

    @abstractmethod
    def target(self, name: bytes) -> bytes:
        """The name of the new file; raises UsageError."""

    @abstractmethod
    def format_of(self, name: bytes) -> str:
        """The format of the compressed file that is read or made."""

    def _removes(self, name: bytes) -> bool:
        """Whether a file is removed in the end: with --rm, and as gzip does without --keep."""
        kept = self.options.keep or self.options.output is not None
        return bool(self.options.rm or (self.format_of(name) == "gzip" and not kept))

    @abstractmethod
    def stream(self, fd: int, end: contextlib.ExitStack) -> None:
        """Write the result for a descriptor to standard output."""


def _opened(name: bytes, end: contextlib.ExitStack, *, follow: bool) -> Any:
    """A regular file, or standard input for "-", open for reading; raises OSError, UsageError."""
    try:
        return open_file(name, end, follow=follow)
    except OSError as error:
        if error.errno != errno.ELOOP or follow:
            raise
        text = "is a link, ignored; -f follows it, -c writes to standard output"
        raise OSError(errno.ELOOP, text, os.fsdecode(name)) from None
