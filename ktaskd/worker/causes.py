"""Explains a failed system call on a source by the source's flags, attributes or seals."""

from __future__ import annotations

import array
import errno
import fcntl
import os
from collections.abc import Iterator

from ktaskd.functions.failures import Failed
from ktaskd.model.function import Access
from ktaskd.model.source import F_SEAL_FUTURE_WRITE, F_SEAL_WRITE
from ktaskd.worker.jobs import Job
from ktaskd.worker.sources import Source

_GETFLAGS = 0x80086601
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
"""FS_IOC_GETFLAGS, FS_IMMUTABLE_FL, FS_APPEND_FL. Source: ioctl_iflags(2), linux/fs.h"""


def explained(error: Exception, job: Job | None) -> Exception:
    """The error with its cause added, if the state of the source that it names explains it.

    A descriptor is shared with its owner, who may have changed its flags since it was vetted.
    """
    if job is None or not isinstance(error, OSError) or error.errno not in (errno.EINVAL, errno.EPERM):
        return error
    text = str(error.strerror)
    for name, source, writes in _sources(job):
        if text.startswith(f'source "{name}"') and (why := _why(error.errno, source, writes)):
            return Failed(error.errno, f"{text}: {why}")
    return error


def _sources(job: Job) -> Iterator[tuple[str, Source, bool]]:
    """Each source of the job, with its name in errors and whether the job writes it."""
    written = {role.role for role in job.declaration.sources if Access.WRITE in role.access}
    for role, source in job.context.sources.items():
        if isinstance(source, Source):
            yield role, source, role in written
    for position, source in job.context.items.items():
        if isinstance(source, Source):
            yield f"items[{position}]", source, False


def _why(number: int, source: Source, writes: bool) -> str:
    try:
        if number == errno.EINVAL:
            direct = fcntl.fcntl(source.fd, fcntl.F_GETFL) & os.O_DIRECT
            return "O_DIRECT was set on the file after it was handed over; clear the flag" if direct else ""
        return _forbidden(source) if writes else ""
    except OSError:
        return ""


def _forbidden(source: Source) -> str:
    """Why a write to a file that is open for writing was forbidden."""
    flags = array.array("l", [0])
    try:
        fcntl.ioctl(source.fd, _GETFLAGS, flags, True)
    except OSError:
        flags[0] = 0  # the file system has no such attributes
    if flags[0] & _IMMUTABLE:
        return "the file was made immutable; see chattr(1)"
    if flags[0] & _APPEND_ONLY:
        return "the file was made append-only; see chattr(1)"
    try:
        sealed = fcntl.fcntl(source.fd, fcntl.F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
    except OSError:
        sealed = 0
    return "the file was sealed against writing" if sealed else ""
