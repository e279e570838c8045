"""A body's line to the outside: the shared page, and PRIOR frames."""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence

from ktaskd.worker.frames import (
    PRIOR,
    RESTS,
    SLOT_BEATS,
    SLOT_POSITION,
    SLOT_RECALL,
    SLOT_SEQ,
    WAKES,
    pack_note,
)
from ktaskd.worker.memory_guard import RoomGuard

HOLES_PER_FRAME = 1000
"""Of at most 44 bytes each as JSON: a PRIOR frame stays below FRAME_BYTES_MAX."""

Hole = tuple[int, int]


class ChunkControl:
    """Fulfils `functions.body.Control` for one chunk. One object serves them all.

    Args:
        words: the worker's page of the board, as 64-bit words.
        send: sends one frame to the daemon.
        line: descriptor on which frames of the daemon come; -1 = there is none.
    """

    def __init__(self, words: memoryview, send: Callable[[bytes], object], line: int = -1) -> None:
        """Hold the lines."""
        self._words = words
        self._send = send
        self._line = line
        self._seq = 0
        self.holes: list[Hole] = []
        self.room: RoomGuard | None = None
        """Of the job at hand: stops it where there is no memory left."""

    def begin(self, seq: int) -> None:
        """Be for chunk `seq` from now on."""
        self._seq = seq
        if self.holes:
            self.holes = []

    def quantum(self, position: int) -> bool:
        """Publish the position; True if the chunk is wanted back.

        Raises:
            OSError: ENOMEM where the job writes memory and the machine has too little left.
        """
        words = self._words
        words[SLOT_POSITION] = position
        words[SLOT_BEATS] += 1
        if self.room is not None:
            self.room.check()
        return bool(words[SLOT_RECALL] >= self._seq)

    def prior(self, start: int, end: int, holes: Sequence[Hole]) -> None:
        """Tell the daemon what [start, end) holds, in as many frames as it takes."""
        self.holes.extend(holes)
        for first in range(0, max(len(holes), 1), HOLES_PER_FRAME):
            piece = holes[first : first + HOLES_PER_FRAME]
            last = first + HOLES_PER_FRAME >= len(holes)
            stop = end if last else piece[-1][1]
            self._send(pack_note(PRIOR, self._seq, {"start": start, "end": stop, "holes": piece}))
            start = stop

    def rest(self, wanted: int) -> bool:
        """Sleep until `wanted` can be read; False where the daemon wants something first."""
        poll = select.poll()
        poll.register(wanted, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        self._send(pack_note(RESTS, self._seq))
        # A recall from here on comes with a frame, one from before is seen in the page.
        ready = {} if self._words[SLOT_RECALL] >= self._seq else dict(poll.poll())
        self._send(pack_note(WAKES, self._seq))
        return wanted in ready


class FaultyControl(ChunkControl):
    """The same with a fault point after the first quantum of each chunk.

    Args:
        fault: passes a fault point.
    """

    def __init__(
        self, words: memoryview, send: Callable[[bytes], object], line: int, fault: Callable[[str], object]
    ) -> None:
        """Hold the lines."""
        super().__init__(words, send, line)
        self._fault = fault
        self._begun = False

    def begin(self, seq: int) -> None:
        """Be for chunk `seq` from now on."""
        super().begin(seq)
        self._begun = False

    def quantum(self, position: int) -> bool:
        """Publish the position; after the first quantum anything may happen."""
        wanted_back = super().quantum(position)
        if self._begun:
            self._fault("worker.mid_chunk")
        self._begun = True
        return wanted_back


class UndoControl:
    """Fulfils `functions.body.Control` for an undo, which nobody takes back.

    Args:
        publish: whether positions are published. Not while a worker undoes its
            own failed chunk: the page then still says how far that one came.
        fault: passes a fault point; None where faults are off.
    """

    FAULT = "worker.mid_undo"

    def __init__(
        self, words: memoryview, *, publish: bool, fault: Callable[[str], object] | None = None
    ) -> None:
        """Hold the page."""
        self._fault = fault
        self._words = words
        self._publish = publish

    def quantum(self, position: int) -> bool:
        """Show that there is life in it; never stops."""
        if self._publish:
            self._words[SLOT_POSITION] = position
        self._words[SLOT_BEATS] += 1
        if self._fault is not None:
            self._fault(self.FAULT)
        return False

    def prior(self, start: int, end: int, holes: Sequence[Hole]) -> None:
        """Nothing: an undo is not undone."""

    def rest(self, wanted: int) -> bool:
        """Never: an undo has nothing to wait for."""
        return False


class FinishControl(UndoControl):
    """Fulfils the same for a finish, which may be broken off where its declaration says so."""

    FAULT = "worker.mid_finish"

    def quantum(self, position: int) -> bool:
        """Show that there is life in it; True if the job was stopped."""
        super().quantum(position)
        return bool(self._words[SLOT_RECALL] >= self._words[SLOT_SEQ])
