"""A body's connection to the daemon: the shared page, and PRIOR frames."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence

from ktaskd.model.function import Declaration
from ktaskd.model.limits import LEASE_REPORT_S
from ktaskd.worker.frames import (
    PRIOR,
    RESTS,
    SLOT_BEATS,
    SLOT_CLAIM,
    SLOT_END,
    SLOT_POSITION,
    SLOT_RECALL,
    SLOT_SEQ,
    WAKES,
    pack_note,
)
from ktaskd.worker.memory_guard import RoomGuard

HOLES_PER_FRAME = 1000
"""Limit of the holes in a PRIOR frame. At 44 bytes of JSON each, the frame stays below FRAME_BYTES_MAX."""

Hole = tuple[int, int]


class ChunkControl:
    """Implements `functions.body.Control` for chunks. One object serves all chunks in turn.

    Args:
        words: the worker's page of the board, as 64-bit words.
        send: sends one frame to the daemon.
        socket_fd: descriptor from which frames of the daemon are read; -1 = none.
    """

    def __init__(self, words: memoryview, send: Callable[[bytes], object], socket_fd: int = -1) -> None:
        """Begin without a chunk."""
        self._words = words
        self._send = send
        self._socket_fd = socket_fd
        self._seq = 0
        self.holes: list[Hole] = []
        self.room: RoomGuard | None = None
        """The guard of the current job, which stops it when memory runs out."""

    def begin(self, seq: int) -> None:
        """Serve chunk `seq` from now on."""
        self._seq = seq
        if self.holes:
            self.holes = []

    def quantum(self, position: int) -> bool:
        """Publish the position; True if the chunk was recalled.

        Raises:
            OSError: ENOMEM if the job writes memory and the machine has too little left.
        """
        words = self._words
        words[SLOT_POSITION] = position
        words[SLOT_BEATS] += 1
        if self.room is not None:
            self.room.check()
        return bool(words[SLOT_RECALL] >= self._seq)

    def prior(self, start: int, end: int, holes: Sequence[Hole]) -> None:
        """Send the daemon what [start, end) holds, in as many frames as needed."""
        self.holes.extend(holes)
        for first in range(0, max(len(holes), 1), HOLES_PER_FRAME):
            piece = holes[first : first + HOLES_PER_FRAME]
            last = first + HOLES_PER_FRAME >= len(holes)
            stop = end if last else piece[-1][1]
            self._send(pack_note(PRIOR, self._seq, {"start": start, "end": stop, "holes": piece}))
            start = stop

    def rest(self, wanted: int) -> bool:
        """Sleep until `wanted` is readable; False if a frame or a recall of the daemon comes first."""
        poll = select.poll()
        poll.register(wanted, select.POLLIN)
        poll.register(self._socket_fd, select.POLLIN)
        self._send(pack_note(RESTS, self._seq))
        # A recall from here on comes with a frame; an earlier one is visible in the page.
        ready = {} if self._words[SLOT_RECALL] >= self._seq else dict(poll.poll())
        self._send(pack_note(WAKES, self._seq))
        return wanted in ready


class LeaseControl(ChunkControl):
    """The same for leases, of which the daemon may take the tail while the worker is in it.

    Before each quantum the worker writes how far the quantum may reach, its *claim*, and then reads the end.
    The daemon writes an earlier end and then reads the claim. Whichever comes first, the two agree that the
    worker has everything up to the larger of both: if it sees the new end it stops before the quantum, and
    if it does not, the daemon sees the claim.
    """

    _quantum = _align = 1
    _at = _granted = 0
    end = 0
    """The end of the lease when the worker last looked."""
    _report_s = _give_back_s = 0.0

    def open(self, seq: int, function: Declaration, give_back_s: float) -> None:
        """Serve lease `seq` from now on.

        Args:
            give_back_s: when to give the rest back, on the monotonic clock; infinite = never.
        """
        self.begin(seq)
        self._quantum, self._align, self._give_back_s = function.quantum, function.align, give_back_s

    def _claim(self, at: int) -> int:
        """Publish and return how far the quantum from `at` on may reach; others may begin there."""
        claim = at + self._quantum
        claim += -claim % self._align
        self._words[SLOT_CLAIM] = claim
        return claim

    def resume(self, at: int) -> int:
        """Claim the quantum from `at` on, and return the end of the lease as it is now."""
        words = self._words
        words[SLOT_POSITION] = at
        self._at, self._granted = at, self._claim(at)
        self.end = words[SLOT_END]  # after the claim
        self._report_s = time.monotonic() + LEASE_REPORT_S
        if self.holes:
            self.holes = []
        return self.end

    def is_over(self) -> bool:
        """Whether the rest is wanted back, or the time is over."""
        return bool(self._words[SLOT_RECALL] >= self._seq) or time.monotonic() >= self._give_back_s

    def reached(self, position: int) -> int:
        """The position up to which the work counts, for a body that has returned `position`.

        A body may return a position beyond its claim if it has only looked there, for the begin of a record.
        The positions in between are claimed now, and belong to this lease unless its end was moved there.
        """
        position = min(position, self.end)
        if position > self._granted:
            self._words[SLOT_CLAIM] = position
            end = self._words[SLOT_END]  # after the claim
            position = min(position, max(end, self._granted))
        return position

    def quantum(self, position: int) -> bool:
        """Publish the position and claim the next quantum; True if the body has to return.

        That is so if the lease was recalled or shortened, and after some work if its time is over or a
        report is due.

        Raises:
            OSError: ENOMEM if the job writes memory and the machine has too little left.
        """
        if super().quantum(position):
            return True
        claim = self._claim(position)
        end = self._words[SLOT_END]  # after the claim
        if end < self.end and end < claim:
            return True
        if position > self._at:
            now_s = time.monotonic()
            if now_s >= self._report_s or now_s >= self._give_back_s:
                return True
        self._granted = claim
        return False


class _Faulty(ChunkControl):
    """Adds a fault point after the first quantum of each chunk or lease."""

    _begun = False
    fault: Callable[[str], object]
    """Passes a fault point."""

    def begin(self, seq: int) -> None:
        """Serve chunk `seq` from now on."""
        super().begin(seq)
        self._begun = False

    def quantum(self, position: int) -> bool:
        """Publish the position; pass the fault point after the first quantum."""
        is_recalled = super().quantum(position)
        if self._begun:
            self.fault("worker.mid_chunk")
        self._begun = True
        return is_recalled


class FaultyControl(_Faulty, ChunkControl):
    """A control for chunks with that fault point."""


class FaultyLeaseControl(_Faulty, LeaseControl):
    """A control for leases with that fault point."""


class UndoControl:
    """Implements `functions.body.Control` for an undo, which is never recalled.

    Args:
        publish: whether to publish positions. False while a worker undoes its own failed
            chunk, so that the page still shows how far that chunk got.
        fault: passes a fault point; None = faults are off.
    """

    FAULT = "worker.mid_undo"

    def __init__(
        self, words: memoryview, *, publish: bool, fault: Callable[[str], object] | None = None
    ) -> None:
        """Keep the page."""
        self._fault = fault
        self._words = words
        self._publish = publish

    def quantum(self, position: int) -> bool:
        """Count a beat to show that the worker is alive; never stops the undo."""
        if self._publish:
            self._words[SLOT_POSITION] = position
        self._words[SLOT_BEATS] += 1
        if self._fault is not None:
            self._fault(self.FAULT)
        return False

    def prior(self, start: int, end: int, holes: Sequence[Hole]) -> None:
        """Do nothing: an undo is not undone."""

    def rest(self, wanted: int) -> bool:
        """Return at once: an undo has nothing to wait for."""
        return False


class FinishControl(UndoControl):
    """The same for a finish, which can be stopped if its declaration allows it."""

    FAULT = "worker.mid_finish"

    def quantum(self, position: int) -> bool:
        """Count a beat; True if the job was stopped."""
        super().quantum(position)
        return bool(self._words[SLOT_RECALL] >= self._words[SLOT_SEQ])
