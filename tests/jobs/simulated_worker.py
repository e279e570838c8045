"""A worker without a process: it holds what it was sent, and the test says what it does with it."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from ktaskd.door.handoff.handles import HeldSource
from ktaskd.jobs.roster import Record
from ktaskd.model.priority import Priority
from ktaskd.model.worker import Applied, WorkerClass, WorkerState
from ktaskd.pool.death import Death
from ktaskd.worker.frames import Done, LeaseDone, Op
from ktaskd.worker.messages import Failed, Reply, value_of

if TYPE_CHECKING:
    from tests.jobs.simulated import Simulation


QUANTUM = 4
"""Most positions that a worker claims at once."""


class SimulatedWorker:
    """A worker without a process, as `jobs.ports.Worker` has it."""

    def __init__(self, sim: Simulation, number: int, kind: WorkerClass, nid: int, cpu: int) -> None:
        self.sim = sim
        self.id = self.pid = number
        self.worker_class, self.nid, self.cpu, self.born_on = kind, nid, cpu, cpu
        self.state = WorkerState.STARTING
        self.memory_group = ""
        self.priority = self.base = Priority()
        self.applied = Applied()
        self.own_missing: tuple[str, ...] = ()
        self.jnos: dict[int, frozenset[int]] = {}
        self.retired = self.resting = self.tainted = False
        self.queue: list[tuple[int, str, int, Any]] = []
        """Sent and not answered: (seq, "chunk", "lease" or an op, jno, span or payload)."""
        self.share, self.runnable = 1.0, True
        self.cpu_s, self.cpu_at_s = 0.0, sim.loop.time()
        self.asleep_as = "S"
        """The state that it is in where it is not runnable."""
        self.resumed = self.beats = 0
        self.at = (0, 0)
        """The number of what it has begun, and how far it is."""
        self.recalled_to = 0
        self.claim = 0
        """How far the quantum may reach that it has begun in a lease."""
        self.is_ordered = True
        """Whether its lease may be shortened."""
        self.is_ready = self.is_killed = self.is_dead = self.is_high = False
        self._seq = 0
        self._why = ""
        self._served: int | None = None

    def cpu_seconds(self) -> float:
        now_s = self.sim.loop.time()
        self.cpu_s += (now_s - self.cpu_at_s) * self.share * bool(self.queue)
        self.cpu_at_s = now_s
        return self.cpu_s

    # -- what it is told ----------------------------------------------------------

    def send_chunk(self, jno: int, start: int, end: int, *, nid: int = -1, more: bool = False) -> int:
        assert not self.record.raised, "a raised helper is given work"
        assert self.state is WorkerState.BUSY
        self._seq += 1
        self.queue.append((self._seq, "chunk", jno, (start, end)))
        self._sent("chunk", f"{self._seq} of job {jno} [{start}, {end}) nid={nid} more={more}")
        return self._seq

    def send_lease(
        self,
        jno: int,
        start: int,
        end: int,
        *,
        nid: int = -1,
        slice_s: float = 0.0,
        sole: bool = False,
    ) -> int:
        assert not self.record.raised, "a raised helper is given work"
        assert self.state is WorkerState.BUSY
        assert not self.queue, "a worker that holds something gets a lease"
        self._seq += 1
        self.claim = start
        self.queue.append((self._seq, "lease", jno, (start, end)))
        self.sole = (start, end) if sole else (0, 0)
        self._sent(
            "lease", f"{self._seq} of job {jno} [{start}, {end}) nid={nid} slice={slice_s:g} sole={sole}"
        )
        return self._seq

    def shorten(self, end: int) -> int:
        if not self.is_ordered:
            raise OSError(errno.ENOSYS, "membarrier")
        seq, kind, jno, (start, before) = self.queue[0]
        assert kind == "lease"
        assert start <= end < before
        self.sim.on_shorten(self)  # it may claim another quantum before it sees the new end
        self.queue[0] = (seq, kind, jno, (start, max(end, self.claim)))
        self._sent("shorten", f"{seq} to {end}")
        return max(end, self.claim)

    def claim_more(self, random: Random) -> None:
        """Claim the next quantum of its lease, if it has begun it."""
        if self.begun and self.queue[0][1] == "lease":
            self.claim = min(self.at[1] + random.randint(1, QUANTUM), self.queue[0][3][1])

    def send_step(self, jno: int, op: Op, payload: dict[str, Any]) -> int:
        assert not self.record.raised, "a raised helper is given work"
        self._seq += 1
        self.queue.append((self._seq, op, jno, payload))
        what = json.dumps(payload, sort_keys=True, default=list)
        self._sent("step", f"{self._seq} of job {jno} {op} {what}")
        return self._seq

    @property
    def record(self) -> Record:
        return self.sim.dispatch.roster[self]

    def taint(self) -> None:
        self.tainted = True

    @property
    def is_lead(self) -> bool:
        return self.worker_class is WorkerClass.LEAD

    @property
    def is_dying(self) -> bool:
        return self.is_killed or self.is_dead

    @property
    def position(self) -> tuple[int, int]:
        return self.at

    def has_priority_for(self, caller: Priority) -> bool:
        return self.priority == caller.standing_in(self.base)

    def serves(self, uid: int) -> bool:
        return self._served in (uid, None)

    def turn_to(self, uid: int) -> None:
        if not self.serves(uid):
            self.jnos.clear()
            self._sent("wipe", f"for uid {uid}")
        self._served = uid

    def send_source(self, sid: int, body: dict[str, Any], fd: int) -> None:
        self._sent("source", f"{sid}")

    def forget_source(self, sid: int) -> None:
        self._sent("forget", f"source {sid}")

    def send_items(self, jno: int, start: int, items: Sequence[HeldSource]) -> None:
        self._sent("items", f"of job {jno} from {start} on: {[item.sid for item in items]}")

    def forget_items(self, sids: Iterable[int]) -> None:
        self._sent("forget", f"sources {list(sids)}")

    def send_job(self, jno: int, body: dict[str, Any]) -> None:
        self.jnos[jno] = frozenset()
        self._sent("job", f"{jno} {json.dumps(body, sort_keys=True, default=dict)}")

    def forget_job(self, jno: int) -> None:
        self.jnos.pop(jno, None)
        self._sent("forget", f"job {jno}")

    def recall(self) -> None:
        self.recalled_to = self._seq
        self._sent("recall", f"to {self._seq}")

    def note_rest(self, *, resting: bool) -> None:
        self.resting = resting

    def retire(self) -> None:
        self.retired = True
        self.stop()

    def ends_with_its_job(self) -> bool:
        if self.tainted:
            self.retire()
        return self.tainted

    def _sent(self, verb: str, what: str = "") -> None:
        self.sim.on_send(self, verb, what)

    def kill(self, why: str = "") -> None:
        assert not self.is_dead
        self._why = self._why or why
        self.is_killed = True
        self._sent("kill", why)

    def resume(self) -> None:
        self.resumed += 1
        self._sent("resume")

    def stop(self) -> None:
        self._sent("stop")
        self.state = WorkerState.STOPPING

    # -- what it does ---------------------------------------------------------------

    @property
    def holds_only_empty(self) -> bool:
        """Whether nothing is left of its lease, so that it will touch no source."""
        return all(kind == "lease" and what[0] == what[1] for _, kind, _, what in self.queue)

    @property
    def begun(self) -> bool:
        return bool(self.queue) and self.at[0] == self.queue[0][0]

    @property
    def recalled(self) -> bool:
        return self.recalled_to >= self.queue[0][0]

    def begin(self) -> None:
        seq, kind, _, what = self.queue[0]
        if kind == "lease" and self.begun:
            return
        self.at = (seq, what[0] if kind in ("chunk", "lease") else what.get("start", 0))

    def get_on(self, random: Random) -> None:
        """Get a bit further in what it has begun."""
        seq, kind, jno, what = self.queue[0]
        if kind == "lease":
            self.claim_more(random)
            before, after = self.at[1], random.randint(self.at[1], self.claim)
            self.at = (seq, after)
            if not self.holds_only_empty:
                self.sim.touch(jno, before, after)
        elif kind == "chunk" or kind == "undo":
            end = what[1] if kind == "chunk" else what["end"]
            before = self.at[1]
            after = random.randint(before, end)
            self.at = (seq, after)
            self.sim.touch(jno, before, after, undo=kind == "undo")
        self.beats += 1

    def report(self) -> None:
        """Say what is done of its lease, and keep the rest."""
        seq, kind, jno, (start, end) = self.queue[0]
        assert kind == "lease"
        reached = self.at[1]
        self.queue[0] = (seq, kind, jno, (reached, end))
        self.sim.on_report(self, LeaseDone(seq, reached, 2_000_000, self._part(jno, start, reached)))

    def answer(self, *, whole: bool = True) -> None:
        """End what it has begun; not `whole` = give the rest back."""
        seq, kind, jno, what = self.queue.pop(0)
        if kind not in ("chunk", "lease"):
            self._reply(seq, kind, jno, what)
            return
        start, end = what
        reached = end if whole else self.at[1]
        if kind == "chunk" or start < end:
            self.sim.touch(jno, self.at[1], reached)
        part, combined = self._part(jno, start, reached), kind == "lease" and self.sole == (start, reached)
        self.sim.on_done(self, Done(seq, reached, 2_000_000, part, combined=combined and bool(part)))

    def _part(self, jno: int, start: int, reached: int) -> bytes:
        counts = self.sim.counts(jno) and reached > start
        return json.dumps({"n": reached - start}).encode() if counts else b""

    def _reply(self, seq: int, op: str, jno: int, payload: Any) -> None:
        value: dict[str, Any] = {}
        if op == "combine":
            value = {"n": sum(part["n"] for part in payload["parts"])}
        elif op == "undo":
            self.sim.touch(jno, payload["start"], payload["end"], undo=True)
        self.sim.on_report(self, Reply(seq, 1000, value_of(value)))

    def fail(self) -> None:
        """Raise in what it has begun, and clean up."""
        seq, kind, jno, what = self.queue.pop(0)
        if kind in ("chunk", "lease"):
            self.sim.touch(jno, *what, undo=True)
        self.sim.on_report(self, Failed(seq, 1000, message="it failed"))

    def die(self, status: int | None = 9) -> None:
        self.is_dead = True
        self.queue.clear()
        seq, position = self.position
        self.state, stopping = WorkerState.BACKOFF, self.state is WorkerState.STOPPING
        self.sim.workers.remove(self)
        self.sim.on_dead(
            self,
            Death(
                0 if stopping and not self.is_killed else status, seq, position, self._why, claim=self.claim
            ),
        )
