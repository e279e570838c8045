"""Writes the file again and again, in a thread: a disk that does not answer must not hold the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ktaskd.metrics import textfile

log = logging.getLogger(__name__)

LAST_S = 1.0
"""Longest wait at the end for a write that is under way."""


class Filing:
    """The writer of one file.

    Attributes:
        trouble: why the file was not written the last time, in words; "" = it was.

    Args:
        text: makes the content, in the loop's thread.
        interval_s: seconds between two writes.
    """

    def __init__(self, path: str, text: Callable[[], bytes], interval_s: float) -> None:
        """Write nothing yet."""
        self.trouble = ""
        self._path, self._text, self._interval_s = path, text, interval_s
        self._thread = ThreadPoolExecutor(1, "metrics")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write now, and at each interval from now on, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Write no more, and remove the file."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        # The thread does one thing after another, so this comes after a write that is under way.
        removal = self._thread.submit(textfile.remove, self._path)
        self._thread.shutdown(wait=False)
        await asyncio.wait([asyncio.wrap_future(removal)], timeout=LAST_S)

    async def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._thread, textfile.write, self._path, self._text())
                self.trouble = ""
            except OSError as error:
                self._report(error)
            await asyncio.sleep(self._interval_s)

    def _report(self, error: OSError) -> None:
        """Log the first of several failures with the same reason."""
        words = (
            f"metrics.textfile: {self._path}: {error.strerror}; "
            "let the daemon's user and its service write in that directory"
        )
        if words != self.trouble:
            log.error('metrics_not_written error="%s"', words)
        self.trouble = words
