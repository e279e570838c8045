"""The listening socket of the metrics, at any path that the administrator chooses."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from ktaskd.host.sockets.unixsock import refuse_fds

BACKLOG = 16


class SocketFile:
    """A listening unix socket with a path, which `close` removes.

    Attributes:
        sock: the listening socket.
    """

    def __init__(self, path: str, *, mode: int, gid: int = -1) -> None:
        """Listen at `path`, and replace the socket of a daemon that was killed.

        Args:
            mode, gid: of the path; gid -1 = this process's.
        Raises:
            OSError: the path cannot be used; the words say why.
        """
        self._path = path
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            _remove_dead(path)
            self.sock.bind(path)
            status = os.lstat(path)
            self._made = status.st_dev, status.st_ino
            # Nobody can connect before listen, so mode and group apply to every client.
            os.chown(path, -1, gid)
            os.chmod(path, mode)
            refuse_fds(self.sock)
            self.sock.listen(BACKLOG)
        except BaseException:
            self.sock.close()
            raise

    def close(self) -> None:
        """Stop listening, and remove the path unless it leads to something else by now."""
        self.sock.close()
        with contextlib.suppress(OSError):
            status = os.lstat(self._path)
            if (status.st_dev, status.st_ino) == self._made and stat.S_ISSOCK(status.st_mode):
                os.unlink(self._path)


def _remove_dead(path: str) -> None:
    """Remove a socket that nobody listens on; raise OSError if something else is in the way."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(17, "exists and is no socket; remove it")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its queue is full, so somebody listens
            pass
    raise FileExistsError(17, "another process listens there; choose another path")
