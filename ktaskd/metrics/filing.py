"""Writes the file again and again, in a thread: a disk that does not answer must not hold the loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Callable
from functools import partial
from threading import Thread

from ktaskd.metrics import textfile

log = logging.getLogger(__name__)

LAST_S = 1.0
"""Longest wait at the end, for a write that is under way and for the removal."""


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
        self._thread: Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write now, and at each interval from now on, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Write no more, and remove the file; a disk that does not answer is left alone after LAST_S."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(OSError):  # a TimeoutError is one
            async with asyncio.timeout(LAST_S):
                await self._in_thread(partial(_remove_after, self._thread, self._path))

    async def _go_on(self) -> None:
        while True:
            try:
                await self._in_thread(partial(textfile.write, self._path, self._text()))
                self.trouble = ""
            except OSError as error:
                self._report(error)
            await asyncio.sleep(self._interval_s)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        """Do the work in a thread that does not keep this process alive; raises its OSError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def run() -> None:
            failed: OSError | None = None
            try:
                work()
            except OSError as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(_settle, done, failed)

        thread = Thread(target=run, name="metrics", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started") from error
        self._thread = thread
        await done

    def _report(self, error: OSError) -> None:
        """Log the first of several failures with the same reason."""
        words = (
            f"metrics.textfile: {self._path}: {error.strerror}; "
            "let the daemon's user and its service write in that directory"
        )
        if words != self.trouble:
            log.error('metrics_not_written error="%s"', words)
        self.trouble = words


def _remove_after(writer: Thread | None, path: str) -> None:
    """Remove the file when the last write is over."""
    if writer is not None:
        writer.join()
    textfile.remove(path)


def _settle(done: asyncio.Future[None], failed: OSError | None) -> None:
    if done.done():  # cancelled meanwhile
        return
    if failed is None:
        done.set_result(None)
    else:
        done.set_exception(failed)
