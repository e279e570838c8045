"""A real worker runs the steps that happen once per job."""

from __future__ import annotations

import json
import os

from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from tests.support.sources import facts_of
from tests.worker.realworker import RealWorker

MIB = 1 << 20


def test_step_when_undo_then_progress_is_published_and_nothing_stops_it(
    worker: RealWorker, memory: int
) -> None:
    os.ftruncate(memory, 20)
    worker.source(1, memory, facts_of(memory))
    worker.job(1, "selftest.undo_log", {}, {"data": 1})
    worker.recall(1000)
    worker.step(8, 1, "undo", {"start": 3, "end": 9, "holes": []})
    reply = worker.note(frames.REPLY)
    assert (reply.number, reply.body["value"]) == (8, {"kept": []})
    assert os.pread(memory, 20, 0) == bytes([0] * 3 + [16] * 6 + [0] * 11)
    assert (worker.seq, worker.position) == (8, 9)


def test_step_when_undo_fails_then_its_span_is_dirty(worker: RealWorker, memory: int) -> None:
    worker.source(1, memory, facts_of(memory))
    worker.job(1, "selftest.undo_log", {}, {"data": 1})
    worker.step(8, 1, "undo", {"start": 3, "end": 9, "holes": []})
    assert worker.note(frames.FAILED).body["dirty"] == [[3, 9]]


def test_step_when_the_answer_is_too_large_then_failed(worker: RealWorker) -> None:
    worker.job(1, "file.crc32")
    items = [{"crc32": 1, "bytes": 1}] * 2800
    body = {"jno": 1, "op": "combine", "payload": {"parts": [{"items": items}]}}
    text = json.dumps(body, separators=(",", ":")).encode()
    assert 60_000 < len(text) < FRAME_BYTES_MAX - 9
    worker.sock.send(frames.pack_note(frames.STEP, 1) + text)
    assert "wanted at most" in worker.note(frames.FAILED).body["message"]


def test_step_when_op_is_not_known_then_failed(worker: RealWorker) -> None:
    worker.job(1, "selftest.noop")
    worker.step(1, 1, "explode")
    assert "explode" in worker.note(frames.FAILED).body["message"]


def test_step_when_copy_is_prepared_then_finished_or_restored(
    worker: RealWorker, memory: int, other_memory: int
) -> None:
    os.ftruncate(memory, 100)
    os.ftruncate(other_memory, 40)
    worker.source(1, memory, facts_of(memory))
    worker.source(2, other_memory, facts_of(other_memory))
    worker.job(1, "file.copy", {}, {"src": 1, "dst": 2}, (0, 100), whole=True)
    worker.step(1, 1, "prepare")
    planned = worker.note(frames.PLANNED)
    prepared = worker.note(frames.REPLY).body["value"]
    assert (planned.number, planned.body) == (1, {"value": prepared})
    assert os.fstat(other_memory).st_size == 100
    worker.step(2, 1, "finish", {"prepared": prepared})
    assert worker.note(frames.REPLY).body["value"] == {}
    worker.step(3, 1, "restore", {"prepared": prepared})
    assert worker.note(frames.REPLY).number == 3
    assert os.fstat(other_memory).st_size == 40
