"""A real worker processes a lease: one answer, or reports on the way, or less if its end was moved.

The sources are sparse, so that a lease of a terabyte never ends by itself and needs no memory.

Tests: ktaskd/worker/chunks.py, ktaskd/worker/control.py, ktaskd/worker/life.py, ktaskd/pool/instructed.py
"""

from __future__ import annotations

import json
import os
import signal
import zlib
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from ktaskd.functions.bodies import find
from ktaskd.functions.body import Json
from ktaskd.pool.instructed import Instructed
from ktaskd.pool.outbox import Outbox
from ktaskd.worker.frames import SLOT_CLAIM, SLOT_END, SLOT_ORDERED, Done, Lease, LeaseDone, pack_lease
from tests.functions.inprocess import context_of
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker, wait_until

MIB = 1 << 20
ENDLESS = 1 << 40
DATA = 64 * MIB
"""After this there are only zeros."""
QUANTUM = 2 * MIB
"""Of file.crc32."""


class Leased:
    """A worker that has a job over a sparse source, and the daemon's words for it."""

    def __init__(self, worker: RealWorker, memory: int) -> None:
        self.worker, self.memory = worker, memory
        self.daemon = Instructed(worker.slot, cast(Outbox, None))
        os.ftruncate(memory, ENDLESS)
        for at in range(0, DATA, 5 * MIB):
            os.pwrite(memory, os.urandom(1000), at)
        worker.source(1, memory, facts_of(memory))
        worker.job(1, "file.crc32", {"changed": "warn"}, {"data": 1}, span=(0, ENDLESS))

    def lease(self, seq: int, start: int, end: int, *, slice_ms: int = 0, sole: bool = False) -> None:
        """As `Instructed.send_lease` does."""
        self.worker.slot[SLOT_CLAIM], self.worker.slot[SLOT_END] = start, end
        self.worker.sock.send(pack_lease(Lease(seq, 1, start, end, slice_ms=slice_ms, sole=sole)))

    def done(self) -> tuple[Done, list[LeaseDone]]:
        """The answer, and the reports before it."""
        parts = []
        while isinstance(frame := self.worker.receive(), LeaseDone):
            parts.append(frame)
        assert isinstance(frame, Done), frame
        return frame, parts

    def check(self, end: int, answers: Sequence[Done | LeaseDone]) -> None:
        """The results of all answers together are those of [0, end)."""
        head = os.pread(self.memory, min(end, DATA), 0)
        expected = _joined([_part_of(head), *_zeros(end - len(head))])
        assert _joined([json.loads(answer.part) for answer in answers if answer.part]) == expected
        assert expected["bytes"] == end


def _part_of(content: bytes) -> Json:
    return {"crc32": zlib.crc32(content), "bytes": len(content)}


def _joined(parts: Sequence[Json]) -> Json:
    return find("file.crc32").combine(context_of((0, 0)), parts)


def _zeros(count: int) -> Iterator[Json]:
    """Results for so many zeros, of pieces that double: gigabytes would take long."""
    yield _part_of(bytes(count % MIB))
    piece, pieces = _part_of(bytes(MIB)), count // MIB
    while pieces:
        if pieces & 1:
            yield piece
        piece, pieces = _joined([piece, piece]), pieces >> 1


@pytest.fixture
def leased(worker: RealWorker, memory: int) -> Leased:
    return Leased(worker, memory)


def test_worker_when_it_starts_then_its_accesses_can_be_ordered(worker: RealWorker) -> None:
    """This kernel has membarrier, and the worker's filter comes later."""
    assert worker.slot[SLOT_ORDERED] == 1


def test_lease_when_short_then_one_answer_and_the_page_says_which(leased: Leased) -> None:
    leased.lease(7, 0, 9 * MIB)
    done, parts = leased.done()
    assert (done.seq, done.reached, done.combined, parts) == (7, 9 * MIB, False, [])
    assert leased.worker.seq == 7
    leased.check(9 * MIB, [done])


def test_lease_when_it_is_the_whole_job_then_the_answer_is_its_result(leased: Leased) -> None:
    leased.lease(1, 0, 9 * MIB, sole=True)
    done, parts = leased.done()
    assert (done.reached, done.combined, parts) == (9 * MIB, True, [])
    leased.check(9 * MIB, [done])


def test_lease_when_shortened_in_the_middle_then_others_can_do_the_rest(leased: Leased) -> None:
    leased.lease(1, 0, ENDLESS, sole=True)
    wait_until(lambda: leased.worker.seq == 1 and leased.worker.position > 0)
    end = leased.daemon.shorten(leased.daemon.claim + 2 * QUANTUM)
    first, parts = leased.done()
    assert 0 < first.reached <= end
    assert not first.combined
    leased.lease(2, first.reached, end + 3 * MIB)
    second, more = leased.done()
    assert second.reached == end + 3 * MIB
    leased.check(second.reached, [*parts, first, *more, second])


def test_lease_when_all_of_it_is_taken_before_it_begins_then_given_back_whole(leased: Leased) -> None:
    os.kill(leased.worker.process.pid, signal.SIGSTOP)
    leased.lease(1, 0, ENDLESS)
    assert leased.daemon.shorten(0) == 0
    os.kill(leased.worker.process.pid, signal.SIGCONT)
    done, parts = leased.done()
    assert (done.reached, done.part, parts) == (0, b"", [])


def test_lease_when_long_then_what_is_done_is_reported_and_the_worker_goes_on(leased: Leased) -> None:
    """A report waits for no answer."""
    leased.lease(1, 0, ENDLESS)
    reports = [cast(LeaseDone, leased.worker.receive()) for _ in range(2)]
    assert all(isinstance(report, LeaseDone) for report in reports)
    end = leased.daemon.shorten(leased.daemon.claim + 2 * QUANTUM)
    done, more = leased.done()
    reached = [report.reached for report in [*reports, *more]]
    assert reached == sorted(set(reached))
    assert reached[-1] <= done.reached <= end
    leased.check(done.reached, [*reports, *more, done])


def test_lease_when_its_time_is_over_then_the_rest_is_given_back(leased: Leased) -> None:
    leased.lease(1, 0, ENDLESS, slice_ms=1)
    done, parts = leased.done()
    assert QUANTUM <= done.reached < ENDLESS
    leased.check(done.reached, [*parts, done])


def test_lease_when_recalled_then_the_rest_is_given_back(leased: Leased) -> None:
    leased.lease(1, 0, ENDLESS)
    wait_until(lambda: leased.worker.seq == 1 and leased.worker.position > 0)
    leased.worker.recall(1)
    done, parts = leased.done()
    assert 0 < done.reached < ENDLESS
    leased.check(done.reached, [*parts, done])


def test_lease_when_recalled_before_it_begins_then_given_back_whole(leased: Leased) -> None:
    leased.worker.recall(1)
    leased.lease(1, 0, ENDLESS)
    done, parts = leased.done()
    assert (done.reached, parts) == (0, [])


def test_lease_when_its_worker_dies_then_the_page_says_how_far_it_can_have_come(leased: Leased) -> None:
    leased.lease(3, 4096, ENDLESS)
    wait_until(lambda: leased.worker.seq == 3 and leased.worker.position > 4096)
    leased.worker.process.kill()
    leased.worker.process.wait()
    position, claim = leased.worker.position, leased.worker.slot[SLOT_CLAIM]
    assert leased.worker.seq == 3
    assert 4096 < position <= claim <= position + QUANTUM
    # The positions that it has not claimed can be taken from a dead worker as well.
    assert leased.daemon.shorten(0) == claim
