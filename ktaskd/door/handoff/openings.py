"""Paths that the keeper of the daemon's own uid opens, from the daemon's side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from ktaskd.door.handoff import wire
from ktaskd.door.handoff.handles import CloseFd, HeldSource, OnGone
from ktaskd.door.handoff.keeperpool import KeeperPool
from ktaskd.door.handoff.link import Link
from ktaskd.door.handoff.opening import ERRORS, check_path
from ktaskd.door.handoff.wire import Frame
from ktaskd.host.sockets.unixsock import Fds
from ktaskd.model.errors import FdUnsuitable, KtaskError, QuotaFull
from ktaskd.model.function import Access

OPENS_MAX = 256
"""Most paths that wait to be opened."""


class Openings:
    """Paths that wait to be opened.

    Args:
        numbers: of messages; shared with all other messages to keepers.
        pool: has the keeper that opens.
        on_gone, close: of the sources that are made.
    """

    def __init__(self, numbers: Iterator[int], pool: KeeperPool, *, on_gone: OnGone, close: CloseFd) -> None:
        """Nothing waits."""
        self._numbers = numbers
        self._pool = pool
        self._on_gone = on_gone
        self._close_fd = close
        self._opens: dict[int, tuple[Link, asyncio.Future[HeldSource]]] = {}

    async def open(self, path: str, access: Access) -> HeldSource:
        """As `Keepers.open_path`."""
        check_path(path)
        if len(self._opens) >= OPENS_MAX:
            raise QuotaFull(
                f"paths: too many wait to be opened (limit {OPENS_MAX}); try again when some have been opened"
            )
        link = self._pool.get(os.geteuid(), os.geteuid())
        number = next(self._numbers) % 2**32
        opened: asyncio.Future[HeldSource] = asyncio.get_running_loop().create_future()
        self._opens[number] = (link, opened)
        self._pool.use(link)
        body = wire.pack_json({"path": path, "access": access.value})
        link.send(Frame(wire.OPEN, number=number, body=body))
        try:
            return await opened
        except asyncio.CancelledError:
            # The path may have been opened meanwhile, and nobody will take the source.
            if opened.done() and not opened.cancelled() and opened.exception() is None:
                opened.result().release()
            raise

    def on_lost(self, link: Link, error: KtaskError) -> None:
        """Fail all that this keeper was to open."""
        for number in [number for number, (one, _) in self._opens.items() if one is link]:
            self._settle(number, error)

    def on_unopened(self, frame: Frame) -> None:
        """Fail the open of a path that the keeper refused."""
        refusal = wire.unpack_json(frame.body)
        self._settle(frame.number, ERRORS[refusal["reason"]](refusal["message"]))

    def on_opened(self, frame: Frame, fds: Fds, complete: bool) -> None:
        """Take the descriptor of an opened path if somebody still waits for it."""
        if not complete or len(fds) != 1:
            self._settle(
                frame.number, FdUnsuitable("path: opened, but the daemon has no descriptor left for it")
            )
            return
        (facts,) = wire.unpack_facts(frame.body)
        _, opened = self._opens.get(frame.number, (None, None))
        if opened is not None and not opened.done():
            source = HeldSource(
                fds.take_first(), facts, os.geteuid(), on_gone=self._on_gone, close=self._close_fd
            )
            opened.set_result(source)
        self._forget(frame.number)

    def _settle(self, number: int, error: KtaskError) -> None:
        _, opened = self._opens.get(number, (None, None))
        if opened is not None and not opened.done():
            opened.set_exception(error)
        self._forget(number)

    def _forget(self, number: int) -> None:
        link, _ = self._opens.pop(number, (None, None))
        if link is not None:
            self._pool.unuse(link)
