"""`ktask fill`: fills files with one byte, as dd does from /dev/zero."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
from typing import Any

from ktask import convert
from ktask.cli.bar import drawer_for
from ktask.cli.batches import problem_of
from ktask.cli.escaping import printable
from ktask.cli.exits import DONE, FAILED, complain, warn
from ktask.core import Draft
from ktask.errors import JobFailed, KtaskError
from ktask.link.connect import open_session
from ktask.link.session import Session
from ktask.results import JobState
from ktask.source import kind_name


def fill(options: argparse.Namespace) -> int:
    """Fill each file; returns 1 if one could not be filled."""
    status = DONE
    with contextlib.closing(open_session(options.socket, warn=warn)) as session:
        for name in options.files:
            try:
                _fill(session, os.fsencode(name), options)
            except OSError as error:
                status = complain(f'fill: file "{printable(name)}": {error.strerror or error}', FAILED)
            except KtaskError as error:
                status = complain(f'fill: file "{printable(name)}": {problem_of(error)}', FAILED)
                if error.code == "UNAVAILABLE":
                    raise
    return status


def _fill(session: Session, name: bytes, options: argparse.Namespace) -> None:
    """Fill one file; a new one is removed if that fails."""
    fd, is_new = _open(name, may_create=options.size is not None)
    try:
        with os.fdopen(fd, "r+b", buffering=0) as file:
            size = os.fstat(fd).st_size
            end = size if options.size is None else options.offset + options.size
            if end > size:
                os.ftruncate(fd, end)
            try:
                if options.offset < end:
                    _run(session, file, (options.offset, end - options.offset), options)
            except BaseException:
                os.ftruncate(fd, size)
                raise
            if is_new:
                os.fchmod(fd, 0o666 & ~_umask())
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise


def _open(name: bytes, *, may_create: bool) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    if may_create:
        with contextlib.suppress(FileExistsError):
            return os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600), True
    fd = os.open(name, flags)
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise OSError(f"is a {kind_name(mode)}, wanted a regular file")
    return fd, False


def _run(session: Session, file: Any, span: tuple[int, int], options: argparse.Namespace) -> None:
    """Allocate storage, and write the byte unless it is there already."""
    drafts = [
        Draft("file.allocate", ranges=[span], sources={"data": file}),
        Draft("mem.fill", arg={"value": options.byte}, ranges=[span], sources={"data": file}),
    ]
    for draft in drafts:
        drawer = drawer_for(sys.stderr, "off" if options.quiet else "auto")
        try:
            job = convert.job(session.run(draft, on_job=drawer))
        finally:
            if drawer is not None:
                drawer.clear()
        if job.state is not JobState.SUCCEEDED:
            raise JobFailed(job)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
