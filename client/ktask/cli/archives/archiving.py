"""`ktask compress` and `ktask decompress`: one file after the other."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable

from ktask.cli.archives.archiver import Archiver
from ktask.cli.archives.compressing import Compressor
from ktask.cli.archives.decompressing import Decompressor
from ktask.cli.arguments import UsageError
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.cli.streams import DASH
from ktask.errors import KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session

_WARNED = 2
"""Exit status of gzip(1) after a warning."""


def compress(options: argparse.Namespace) -> int:
    """Compress each file, or standard input."""
    options.format = options.format or "zstd"
    return _each(options, Compressor)


def decompress(options: argparse.Namespace) -> int:
    """Decompress each file, or standard input."""
    return _each(options, Decompressor)


def _each(options: argparse.Namespace, kind: Callable[[argparse.Namespace, Session], Archiver]) -> int:
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
            while rest and not session.is_closed:
                if not _try(archiver, rest.pop(), options):
                    status = FAILED
            warned = warned or archiver.warned
    return _WARNED if warned and status == DONE else status


def _try(archiver: Archiver, name: str, options: argparse.Namespace) -> bool:
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
        if isinstance(error, KtaskError) and error.code == "UNAVAILABLE":
            raise  # no other file could be done either
        complain(f"{options.command}: {name}: {error}", FAILED)
        return False
    return True


def _check_output(options: argparse.Namespace) -> None:
    if sys.stdout is None:
        raise UsageError("standard output: it is closed")
    if options.command == "compress" and sys.stdout.isatty() and not options.force:
        raise UsageError("standard output: compressed data is not for a terminal; redirect it, or use -f")
