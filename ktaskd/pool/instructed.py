"""The frames to one worker, and the words of its page that the daemon writes and reads."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Any

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.host.memory import barrier
from ktaskd.model.limits import NUMA_NO_NODE
from ktaskd.pool.outbox import Outbox
from ktaskd.worker import frames
from ktaskd.worker.frames import Op


class Instructed:
    """The part of a worker's connection that sends frames and knows what the worker has.

    Attributes:
        sids: sources that it was sent and does not have to forget.
        jnos: jobs that were sent to it, each with the sids that it needs until its end.
    """

    resting = False
    """Whether it sleeps in its chunk until a call arrives."""

    def __init__(self, slot: memoryview, outbox: Outbox) -> None:
        """Send nothing yet. `slot` is the worker's page of the board, as 8-byte words."""
        self.slot = slot
        self.sids: set[int] = set()
        self.jnos: dict[int, frozenset[int]] = {}
        self._outbox = outbox
        self._served: int | None = None  # the user of the jobs that were sent to it last
        self._seq = 0

    # -- its page ---------------------------------------------------------------

    @property
    def position(self) -> tuple[int, int]:
        """The chunk that it works on and its position in it, as it publishes them: (seq, position)."""
        return self.slot[frames.SLOT_SEQ], self.slot[frames.SLOT_POSITION]

    @property
    def beats(self) -> int:
        """Quanta that it has worked since its start; does not move while it is starved or hangs."""
        beats: int = self.slot[frames.SLOT_BEATS]
        return beats

    # -- frames to it -----------------------------------------------------------

    def serves(self, uid: int) -> bool:
        """Whether it has no data of another user."""
        return self._served in (uid, None)

    def turn_to(self, uid: int) -> None:
        """Let it work for this user from now on, after it has erased all data of another user.

        Call it only while it has nothing in hand.
        """
        if not self.serves(uid):
            self.sids.clear()
            self.jnos.clear()
            self._outbox.drop_kept()  # they belong to the other user and are not needed now
            self._outbox.keep(frames.pack_note(frames.WIPE, 0))
        self._served = uid

    def send_source(self, sid: int, body: dict[str, Any], fd: int) -> None:
        """Send it a source, unless it has it; the fd stays the caller's."""
        if sid not in self.sids:
            self.sids.add(sid)
            self._outbox.send(frames.pack_note(frames.SOURCE, sid, body), [fd])

    def forget_source(self, sid: int) -> None:
        """Let it unmap and close a source."""
        if sid in self.sids:
            self.sids.remove(sid)
            self._send(frames.pack_note(frames.FORGET_SOURCE, sid))

    def send_items(self, jno: int, start: int, items: Sequence[HeldSource]) -> None:
        """Send it the items of a job's next chunk, which begins at `start`.

        There are at most FDS_PER_MESSAGE_MAX. Each source that it does not have goes along; the
        descriptors stay the caller's.
        """
        new = {item.sid: item for item in items if item.sid not in self.sids}
        self.sids.update(new)
        rows = [(sid, item.facts.row) for sid, item in new.items()]
        body = {"start": start, "sids": [item.sid for item in items], "new": rows}
        self._outbox.send(frames.pack_note(frames.ITEMS, jno, body), [item.fd for item in new.values()])

    def forget_items(self, sids: Iterable[int]) -> None:
        """Let it close the sources that one chunk needed, except those that a job needs as well."""
        gone = self.sids.intersection(sids).difference(*self.jnos.values())
        if gone:
            self.sids -= gone
            self._send(frames.pack_note(frames.FORGET_SOURCES, 0, {"sids": list(gone)}))

    def send_job(self, jno: int, body: dict[str, Any]) -> None:
        """Send it a job."""
        if jno not in self.jnos:
            self.jnos[jno] = frozenset(body.get("sources", {}).values())
        self._outbox.keep(frames.pack_note(frames.JOB, jno, body))

    def forget_job(self, jno: int) -> None:
        """Let it drop a job."""
        if jno in self.jnos:
            del self.jnos[jno]
            self._outbox.keep(frames.pack_note(frames.FORGET_JOB, jno))

    def send_chunk(
        self, jno: int, start: int, end: int, *, nid: int = NUMA_NO_NODE, more: bool = False
    ) -> int:
        """Send it a chunk; returns the seq that its DONE or FAILED will have.

        Args:
            nid: node of new pages, which may differ from the worker's node.
            more: whether another chunk follows at once, so that both go in one datagram.
        """
        self._seq += 1
        frame = frames.pack_chunk(self._seq, jno, start, end, nid)
        if more:
            self._outbox.keep(frame)
        else:
            self._send(frame)
        return self._seq

    def send_lease(
        self,
        jno: int,
        start: int,
        end: int,
        *,
        nid: int = NUMA_NO_NODE,
        slice_s: float = 0.0,
        sole: bool = False,
    ) -> int:
        """Send it a lease, while it holds nothing; returns the seq that its DONE or FAILED will have.

        Args:
            nid: node of new pages, which may differ from the worker's node.
            slice_s: time after which it gives the rest back; 0 = no limit.
            sole: it is the whole job, and the worker combines its result unless it is shortened.
        """
        self._seq += 1
        self.slot[frames.SLOT_CLAIM], self.slot[frames.SLOT_END] = start, end
        self._send(
            frames.pack_lease(frames.Lease(self._seq, jno, start, end, nid, int(slice_s * 1000), sole))
        )
        return self._seq

    @property
    def claim(self) -> int:
        """The position before which it may work in its lease without another look at the lease's end."""
        claim: int = self.slot[frames.SLOT_CLAIM]
        return claim

    def shorten(self, end: int) -> int:
        """Let its lease end at `end`; return where it ends: there, or where the quantum does that has begun.

        Raises:
            OSError: its accesses to the page cannot be ordered, so that it may not see the new end in time.
        """
        if not self.slot[frames.SLOT_ORDERED]:
            raise OSError(errno.ENOSYS, "membarrier: not registered by the worker")
        self.slot[frames.SLOT_END] = end
        barrier.order_all()
        return max(end, self.claim)

    def send_step(self, jno: int, op: Op, payload: dict[str, Any]) -> int:
        """Send it a prepare, undo, combine, finish or restore; returns the seq."""
        self._seq += 1
        self._send(frames.pack_note(frames.STEP, self._seq, {"jno": jno, "op": op, "payload": payload}))
        return self._seq

    def recall(self) -> None:
        """Request the remainder of every chunk that was sent so far."""
        self.slot[frames.SLOT_RECALL] = self._seq
        if self.resting:
            self._send(frames.pack_note(frames.NUDGE, 0))

    def note_rest(self, *, resting: bool) -> None:
        """Record that it sleeps in its chunk, or goes on; wake it if it was recalled meanwhile."""
        self.resting = resting
        if resting and self.slot[frames.SLOT_RECALL] >= self._seq:
            self._send(frames.pack_note(frames.NUDGE, 0))

    def _send(self, frame: bytes) -> None:
        self._outbox.send(frame)
