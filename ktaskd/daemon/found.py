"""Checks whether clients can still find the daemon, whose directory may be removed or replaced."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from ktaskd.door.sockets.rundir import RuntimeDir
from ktaskd.host.files.dirwatch import DirectoryWatch

log = logging.getLogger(__name__)


class Found:
    """Checks the runtime directory whenever something in it is removed.

    Args (attributes):
        lost: why no client can connect any more, in words; "" while clients can.
        missing: why a loss would go unnoticed, in words; "" if the kernel reports it.
    """

    def __init__(self, runtime: RuntimeDir, on_lost: Callable[[], None]) -> None:
        """Not started yet. `on_lost` is called at most once."""
        self.lost = ""
        self.missing = ""
        self._runtime = runtime
        self._on_lost = on_lost
        self._watch: DirectoryWatch | None = None

    def start(self) -> None:
        """Watch from now on, in the running loop. If the kernel cannot watch, log that."""
        inner = os.path.dirname(self._runtime.inner_path)
        try:
            self._watch = DirectoryWatch(os.fspath(self._runtime.path), inner)
        except OSError as error:
            log.warning('runtime_dir_not_watched error="%s"', error)
            self.missing = (
                f"runtime directory: its removal would go unnoticed: {error.strerror}; "
                "raise fs.inotify.max_user_instances"
            )
            return
        asyncio.get_running_loop().add_reader(self._watch.fd, self._look)

    def close(self) -> None:
        """Stop watching."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fd)
            self._watch.close()
            self._watch = None

    def _look(self) -> None:
        assert self._watch is not None
        self._watch.drain()
        if self.lost:
            return
        self.lost = self._runtime.why_lost()
        if self.lost:
            words = "no client can connect any more, and the daemon ends when its jobs have ended"
            log.error('runtime_dir_lost what="%s" means="%s"', self.lost, words)
            self._on_lost()
