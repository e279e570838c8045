"""Learn that something in a directory was removed, without polling.

Source: inotify(7)
"""

from __future__ import annotations

import os

from ktaskd.host.libc import inotify_add_watch, inotify_init

_MOVED_FROM, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x200, 0x400, 0x800
_ONLYDIR = 0x01000000
"""Source: linux/inotify.h"""

_EVENTS = _MOVED_FROM | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_READ_BYTES = 4096


class DirectoryWatch:
    """A descriptor that becomes readable when an entry or the directory itself is removed.

    It does not report what has happened: the caller has to look.
    """

    def __init__(self, *paths: str) -> None:
        """Watch from now on; raises OSError if the kernel cannot, or has too many watches."""
        self.fd = inotify_init(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            for path in paths:
                inotify_add_watch(self.fd, os.fsencode(path), _EVENTS)
        except BaseException:
            self.close()
            raise

    def drain(self) -> None:
        """Read all events so far, so that the descriptor is no longer readable."""
        try:
            while os.read(self.fd, _READ_BYTES):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
