"""Attributes that a copy keeps besides the content: mode, owner, times, access lists and other attributes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

_ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def keep(source: bytes, target: bytes, status: os.stat_result, *, everything: bool) -> None:
    """Give a copy the times, owner and mode of its source, as `cp -p`; raises OSError.

    Without the right to change the owner, the copy keeps its owner, and loses set-user-ID.

    Args:
        everything: other extended attributes, too, as `cp -a`.
    """
    link = stat.S_ISLNK(status.st_mode)
    is_owned = True
    try:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    except PermissionError:
        is_owned = False
        with contextlib.suppress(PermissionError):
            os.chown(target, -1, status.st_gid, follow_symlinks=False)
    if not link:
        mode = stat.S_IMODE(status.st_mode)
        os.chmod(target, mode if is_owned else mode & ~_SPECIAL_BITS)
        _attributes(source, target, everything=everything)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _attributes(source: bytes, target: bytes, *, everything: bool) -> None:
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):
            return
        raise
    for name in names:
        if everything or name in _ACCESS_LISTS:
            # Some belong to the system or need rights that the user lacks.
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
