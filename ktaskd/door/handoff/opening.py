"""Opens a path with the daemon's rights, and vets it like a client's descriptor.

Runs in a keeper only: a path may lead to a place where even stat hangs.
"""

from __future__ import annotations

import errno
import os
import stat

from ktaskd.door.handoff.vet import describe_type, find_file_system, vet
from ktaskd.host.sockets.unixsock import Fds
from ktaskd.model.errors import FdUnsuitable, KtaskError, NotAllowed, PathNotFound, SourceInvalid
from ktaskd.model.function import Access
from ktaskd.model.limits import PATH_BYTES_MAX
from ktaskd.model.source import SourceFacts

ERRORS: dict[str, type[KtaskError]] = {
    error.reason: error for error in (PathNotFound, NotAllowed, FdUnsuitable, SourceInvalid)
}
"""The errors of opening a path, by reason."""

_MODES = {Access.READ: os.O_RDONLY, Access.WRITE: os.O_WRONLY, Access.READ_WRITE: os.O_RDWR}

SHOWN_MAX = 256
"""Characters of a path in a message."""

_NOT_FOUND = frozenset((errno.ENOENT, errno.ENOTDIR))
_NOT_ALLOWED = frozenset((errno.EACCES, errno.EPERM))


def check_path(path: str) -> None:
    """Raise SourceInvalid unless `path` can name a file, wherever it is."""
    try:
        size = len(os.fsencode(path))
    except UnicodeEncodeError as error:
        raise SourceInvalid("path: contains characters that no path can contain") from error
    if size > PATH_BYTES_MAX:
        raise SourceInvalid(f"path: {size} bytes long, wanted at most {PATH_BYTES_MAX}")
    if "\0" in path:
        raise SourceInvalid("path: contains a NUL character, which no path can contain")
    if not path.startswith("/"):
        raise SourceInvalid(f"{_show(path)}: relative, wanted an absolute path")


def _show(path: str) -> str:
    """Shorten a path for a message, which has to fit into the header of a reply."""
    return f'path "{path[:SHOWN_MAX]}{"..." if len(path) > SHOWN_MAX else ""}"'


def open_vetted(path: str, access: Access) -> tuple[int, SourceFacts]:
    """Open `path` and vet it; the caller owns the descriptor.

    The file is checked before it is opened, since merely opening a device can have
    effects. The link under /proc leads to the very file that was checked.

    Raises:
        PathNotFound, NotAllowed, FdUnsuitable, SourceInvalid
    """
    check_path(path)
    what = _show(path)
    try:
        with Fds([os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)]) as found:
            (path_fd,) = found
            _check_before(path_fd, what)
            flags = _MODES[access] | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            opened = Fds([os.open(f"/proc/self/fd/{path_fd}", flags)])
    except OSError as error:
        raise _refusal(error, what, access) from error
    with opened:
        (fd,) = opened
        facts = vet(fd, own_offset=True, what=what)
        return opened.take_first(), facts


def _check_before(path_fd: int, what: str) -> None:
    """Raise FdUnsuitable unless it is a regular file on a file system that is safe to use."""
    find_file_system(path_fd, what)
    mode = os.fstat(path_fd).st_mode
    if not stat.S_ISREG(mode):
        raise FdUnsuitable(f"{what}: is a {describe_type(mode)}, wanted a regular file")


def _refusal(error: OSError, what: str, access: Access) -> KtaskError:
    if error.errno in _NOT_FOUND:
        return PathNotFound(f"{what}: {error.strerror}")
    if error.errno in _NOT_ALLOWED:
        return NotAllowed(
            f"{what}: the daemon (uid {os.geteuid()}) may not {access} it; open it with your own rights "
            "instead: `ktask run` does, and `ktask hold` prints a handle for other programs"
        )
    if error.errno == errno.EWOULDBLOCK:
        return FdUnsuitable(
            f"{what}: opening it would block, since another process holds a lease on it; try again later"
        )
    return FdUnsuitable(f"{what}: cannot be opened to {access} it: {error.strerror}")
