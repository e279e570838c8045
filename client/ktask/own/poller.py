"""A selector that other threads can wake."""

from __future__ import annotations

import contextlib
import os
import selectors


class Poller:
    """A selector with an eventfd of its own; closed, it can be opened again.

    `wake` may be called from any thread, also when the poller is closed. The caller's lock
    keeps the rest apart.
    """

    def __init__(self) -> None:
        """Closed at first."""
        self._selector: selectors.BaseSelector | None = None
        self._wake_fd = -1

    def open(self) -> None:
        """Get ready to wait."""
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)

    def close(self) -> None:
        """Give both descriptors back."""
        self.selector.close()
        os.close(self._wake_fd)
        self._selector, self._wake_fd = None, -1

    @property
    def selector(self) -> selectors.BaseSelector:
        """The open selector; the key whose data is None is that of `wake`."""
        assert self._selector is not None
        return self._selector

    def wake(self) -> None:
        """Have the waiting thread look again."""
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def note_woken(self) -> None:
        """Have the next wait wait again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
