"""Paths that the keeper of the daemon's own uid opens, as the daemon sees them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

from ktaskd.door.handoff import wire
from ktaskd.door.handoff.handles import CloseFd, HeldSource, OnGone
from ktaskd.door.handoff.link import Link
from ktaskd.door.handoff.opening import ERRORS, check_path
from ktaskd.door.handoff.wire import Frame
from ktaskd.host.sockets.unixsock import Fds
from ktaskd.model.errors import FdUnsuitable, KtaskError, QuotaFull
from ktaskd.model.function import Access

OPENS_MAX = 256
"""Paths that wait to be opened."""


class Openings:
    """What waits to be opened.

    Args:
        numbers: of messages; shared with everything else that keepers are sent.
        link: the keeper that opens.
        use, unuse: called when a keeper has one thing more to do, or has done it.
        on_gone, close: of the sources that are made.
    """

    def __init__(
        self,
        numbers: Iterator[int],
        *,
        link: Callable[[], Link],
        use: Callable[[Link], None],
        unuse: Callable[[Link], None],
        on_gone: OnGone,
        close: CloseFd,
    ) -> None:
        """Nothing waits."""
        self._numbers = numbers
        self._link = link
        self._use = use
        self._unuse = unuse
        self._on_gone = on_gone
        self._close_fd = close
        self._opens: dict[int, tuple[Link, asyncio.Future[HeldSource]]] = {}

    async def open(self, path: str, access: Access) -> HeldSource:
        """As `Keepers.open_path`."""
        check_path(path)
        if len(self._opens) >= OPENS_MAX:
            raise QuotaFull(f"paths: {len(self._opens)} wait to be opened, at most {OPENS_MAX} may")
        link = self._link()
        number = next(self._numbers) % 2**32
        opened: asyncio.Future[HeldSource] = asyncio.get_running_loop().create_future()
        self._opens[number] = (link, opened)
        self._use(link)
        body = wire.pack_json({"path": path, "access": access.value})
        link.send(Frame(wire.OPEN, number=number, body=body))
        try:
            return await opened
        except asyncio.CancelledError:
            # It may have been opened in the meantime, and nobody will take it.
            if opened.done() and not opened.cancelled() and opened.exception() is None:
                opened.result().release()
            raise

    def on_lost(self, link: Link, error: KtaskError) -> None:
        """A keeper does not open anything any more."""
        for number in [number for number, (one, _) in self._opens.items() if one is link]:
            self._settle(number, error)

    def on_unopened(self, frame: Frame) -> None:
        """A path was refused."""
        refusal = wire.unpack_json(frame.body)
        self._settle(frame.number, ERRORS[refusal["reason"]](refusal["message"]))

    def on_opened(self, frame: Frame, fds: Fds, complete: bool) -> None:
        """A path was opened; its descriptor is taken if somebody still waits for it."""
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
            self._unuse(link)
