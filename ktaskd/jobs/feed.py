"""Sends a worker its chunks, and before them the job and the sources."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ktaskd.functions.plugins.described import to_json
from ktaskd.functions.plugins.manifests import note_of
from ktaskd.jobs.crew import HeldChunk
from ktaskd.jobs.fairshare import Shares
from ktaskd.jobs.job import Job
from ktaskd.jobs.leases import Leases
from ktaskd.jobs.ports import Worker
from ktaskd.jobs.roster import Record
from ktaskd.jobs.sizes import next_size
from ktaskd.model.function import Access, Native
from ktaskd.model.limits import SHORT_CHUNK_S
from ktaskd.model.source import SourceFacts, SourceKind
from ktaskd.planner.cursor import Chunk
from ktaskd.worker.codec import facts_to_json

IN_FLIGHT_S = 0.0005
IN_FLIGHT_MAX = 8
"""Most work that one worker holds if chunks are short: in seconds, and in chunks."""

LIBRARY_SIDS = 1 << 62
"""Source numbers from here on are libraries: this plus the library's descriptor in the daemon."""

ITEMS_PER_CHUNK = 64
"""Most items in one chunk, each with a source that is sent along."""


def introduce(worker: Worker, record: Record, job: Job) -> None:
    """Send what a worker must know before its first chunk of a job."""
    held = job.crew.held.setdefault(worker, {})
    assert not held, "a worker that holds chunks knows its job"
    worker.turn_to(job.owner.uid)
    if job.jno in worker.jnos:
        return
    for source in job.sources.values():
        worker.send_source(source.sid, {"facts": facts_to_json(source.facts)}, source.fd)
    declaration = job.checked.declaration
    body: dict[str, object] = {
        "function": declaration.name,
        "arg": dict(job.checked.arg),
        "sources": {role: source.sid for role, source in job.sources.items()},
        "span": list(job.checked.span),
        "whole": job.checked.whole,
    }
    if job.guest.unpaid:
        body["unmapped"] = True
    if declaration.native is not None:
        body["native"] = note_of(declaration)
        body["library"] = _send_library(worker, declaration.native)
    if declaration.plugin:
        body["plugin"] = to_json(declaration)
    if declaration.foreign:
        worker.taint()
    record.confined = record.confined or not declaration.own
    worker.send_job(job.jno, body)
    job.crew.introduced.add(worker)


def _send_library(worker: Worker, native: Native) -> int:
    """Send a worker the library that was checked, as a source that stays open; return its sid."""
    sid = LIBRARY_SIDS + native.fd
    status = os.fstat(native.fd)
    facts = SourceFacts(
        SourceKind.FILE, Access.READ, append=False, seals=0, size=status.st_size, page_size=4096,
        device=status.st_dev, inode=status.st_ino, file_system="", own_offset=False,
    )  # fmt: skip
    worker.send_source(sid, {"facts": facts_to_json(facts)}, native.fd)
    return sid


def renewed(worker: Worker, record: Record, job: Job) -> bool:
    """Replace a worker that has given up rights that the job's code may need; return whether that was so."""
    if not (record.confined and job.checked.declaration.own):
        return False
    worker.retire()
    return True


class Feeder:
    """Gives chunks to a worker that is in the crew of a job.

    Args:
        has_free: whether a node has a free helper for the ranges of that node.
        alone: whether no other job wants workers, and helpers may work all of the time.
    """

    def __init__(
        self,
        shares: Shares,
        has_free: Callable[[int], bool],
        leases: Leases,
        alone: Callable[[Job], bool] = lambda _: False,
    ) -> None:
        """Charge the chunks that are given to `shares`."""
        self._shares = shares
        self._leases = leases
        self._alone = alone
        self._has_free = has_free
        self._now = asyncio.get_running_loop().time

    def feed(self, worker: Worker, job: Job) -> None:
        """Give a worker as many chunks as it should hold."""
        held = job.crew.held[worker]
        if worker.is_lead and job.crew.to_duplicate and not held:
            self._run_again(worker, job)
        if job.has_leases:
            if not held:
                self._lease(worker, job)
            return
        size = next_size(job, lead=worker.is_lead, alone=self._alone(job))
        if job.counts_items:
            size = min(size, ITEMS_PER_CHUNK)
        depth = self._depth(worker, job, size)
        if len(held) <= depth // 2:
            chunks = self._take(worker, job, size, depth - len(held))
            for i, chunk in enumerate(chunks, 1):
                self._give(worker, job, chunk, more=i < len(chunks))

    def _lease(self, worker: Worker, job: Job) -> None:
        """Give a worker its share of what nobody has, or else half of what the busiest worker has left."""
        nid, lead = self._place(worker, job)
        if not job.left and not self._leases.divide(job, nid, lead=lead):
            return
        for chunk in self._take(worker, job, self._leases.size(job), 1):
            self._give(worker, job, chunk)

    def _give(self, worker: Worker, job: Job, chunk: Chunk, *, more: bool = False) -> HeldChunk:
        """Send one chunk or lease, and charge its owner in advance."""
        uid = job.owner.uid
        # By CPU time: the rate is measured by the clock, and is low for a starved helper.
        cost_s = job.tally.cpu_s / (job.completed or 1)
        likely_s = (chunk.end - chunk.start) * cost_s if cost_s else self._shares.likely_s(uid)
        held = HeldChunk(chunk, self._now(), worker, likely_s)
        if job.has_leases:
            held.is_lease, held.slice_s = True, self._leases.slice_s(worker, job)
            held.charged_s = self._leases.cost_s(likely_s, held.slice_s)
            held.is_sole = job.combines_alone and chunk.end - chunk.start == job.plan.total
            seq = worker.send_lease(
                job.jno,
                chunk.start,
                chunk.end,
                nid=chunk.nid,
                slice_s=held.slice_s,
                sole=held.is_sole,
            )
        else:
            self._send_items(worker, job, chunk)
            seq = worker.send_chunk(job.jno, chunk.start, chunk.end, nid=chunk.nid, more=more)
        self._shares.charge(uid, held.charged_s)
        job.crew.give(worker, seq, held)
        return held

    def _run_again(self, lead: Worker, job: Job) -> None:
        """Have the lead run a chunk that a starved helper still holds; the first to finish wins."""
        held = job.crew.take_duplicate()
        job.crew.pair(held, self._give(lead, job, held.chunk))
        job.tally.duplicated += 1

    @staticmethod
    def _depth(worker: Worker, job: Job, size: int) -> int:
        """Return how many chunks a worker should hold: more than one hides the dispatch of short chunks.

        Two for chunks below 2 ms; below a quarter of a millisecond so many that
        the worker need not be woken for each. Two for a lead as well: on a busy
        machine the daemon waits for a CPU before it can give the next one. Never
        at the tail, where a chunk that waits behind another one would make the job
        wait.
        """
        rate = job.rate(lead=worker.is_lead)
        ahead = worker.is_lead and not job.caller.cpu_quota
        if not rate or (size / rate > SHORT_CHUNK_S and not ahead):
            return 1
        wanted = min(max(int(IN_FLIGHT_S * rate / size), 2), IN_FLIGHT_MAX)
        return max(min(wanted, job.left // (2 * size * job.threads)), 1)

    @staticmethod
    def _place(worker: Worker, job: Job) -> tuple[int, bool]:
        """Return the node that a worker takes positions of, and whether it may take those of any node."""
        nid = job.owner.nid if worker.is_lead else worker.nid
        # A guest has the whole job, whichever node its ranges are on.
        return nid, worker.is_lead or bool(worker.memory_group)

    def _take(self, worker: Worker, job: Job, size: int, count: int) -> list[Chunk]:
        nid, lead = self._place(worker, job)
        chunks: list[Chunk] = []
        while len(chunks) < count:
            chunk = job.positions.take(size, nid, lead=lead, has_free=self._has_free)
            if chunk is None:
                break
            chunks.append(chunk)
        return chunks

    @staticmethod
    def _send_items(worker: Worker, job: Job, chunk: Chunk) -> None:
        if job.items:
            worker.send_items(job.jno, chunk.start, job.items[chunk.start : chunk.end])
