"""Tokens of the calls that a worker was sent ahead.

The client puts in a token for each such call, and the worker takes one before it begins the next of
them. So each call ahead is begun by the worker or taken back by the client, and never both: taking a
token from an eventfd is atomic.
"""

from __future__ import annotations

import os


class Tokens:
    """The tokens for one worker.

    Attributes:
        fd: an eventfd that counts them, owned by this object; -1 when closed.
    """

    __slots__ = ("fd",)

    def __init__(self) -> None:
        """No token; raises OSError."""
        self.fd = -1
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)

    def __del__(self) -> None:
        """Close the descriptor."""
        self.close()

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def put(self, count: int) -> None:
        """Add tokens."""
        if count:
            os.eventfd_write(self.fd, count)

    def take_all(self) -> int:
        """Take the tokens that nobody else has taken; returns how many."""
        count = 0
        try:
            while True:
                count += os.eventfd_read(self.fd)
        except BlockingIOError:
            return count
