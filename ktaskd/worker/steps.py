"""Runs the steps that happen once per job: prepare, undo, combine, finish and restore."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ktaskd.functions.body import Body
from ktaskd.host import faults
from ktaskd.model.limits import FRAME_BYTES_MAX
from ktaskd.worker import frames
from ktaskd.worker.causes import explained
from ktaskd.worker.control import FinishControl, UndoControl
from ktaskd.worker.failures import changed_elsewhere, failure
from ktaskd.worker.faultpoints import FaultPoints
from ktaskd.worker.frames import SLOT_POSITION, SLOT_SEQ, Op, check_nesting, pack_note
from ktaskd.worker.jobs import Job, Known

Json = dict[str, Any]


class Steps:
    """Runs one step at a time.

    Args:
        words: the worker's page of the board, as 64-bit words.
        send: sends one frame to the daemon.
    """

    def __init__(
        self, words: memoryview, send: Callable[[bytes], object], known: Known, points: FaultPoints
    ) -> None:
        """Keep them."""
        self._words = words
        self._send = send
        self._known = known
        self._points = points

    def answer(self, seq: int, body: Json) -> None:
        """Run the step that a STEP frame requests, and answer it."""
        self._points.begin(body["jno"], "worker.before_ack")
        self._words[SLOT_POSITION] = 0
        self._words[SLOT_SEQ] = seq
        before = time.thread_time_ns()
        payload, job = body["payload"], None
        try:
            job = self._known.job(body["jno"])
            self._points.hit(f"worker.in_{body['op']}")
            value = _OPERATIONS[body["op"]](self, job, payload)
            frame = pack_note(frames.REPLY, seq, {"cpu_ns": time.thread_time_ns() - before, "value": value})
            if len(frame) > FRAME_BYTES_MAX:
                raise ValueError(f"result of {len(frame)} bytes, wanted at most {FRAME_BYTES_MAX}")
            check_nesting(frame, [value])
        except Exception as error:
            dirty = [[payload["start"], payload["end"]]] if body["op"] == Op.UNDO else []
            dirty += changed_elsewhere(error)
            fields = failure(explained(error, job), before, own=job is not None and job.declaration.own)
            frame = pack_note(frames.FAILED, seq, {**fields, "dirty": dirty})
        self._points.hit("worker.after_step")
        self._send(frame[: len(frame) // 2] if self._points.hit("worker.half_frame") else frame)

    def _prepare(self, job: Job, payload: Json) -> Json:
        """Run `prepare`, then `begin` after the daemon knows what `begin` will change."""
        prepared = job.body.prepare(job.context)
        if type(job.body).begin is not Body.begin:
            self._send(pack_note(frames.PLANNED, self._words[SLOT_SEQ], {"value": prepared}))
            self._points.hit("worker.in_begin")
            job.body.begin(job.context, prepared)
        return prepared

    def _undo(self, job: Job, payload: Json) -> Json:
        """Run `undo` on completed chunks."""
        start, end = payload["start"], payload["end"]
        self._words[SLOT_POSITION] = start
        holes = [(first, after) for first, after in payload["holes"]]
        fault = self._points.hit if faults.ON else None
        control = UndoControl(self._words, publish=True, fault=fault)
        kept = job.body.undo(job.context, start, end, holes, control)
        return {"kept": [[first, after] for first, after in kept]}

    def _combine(self, job: Job, payload: Json) -> Json:
        """Run `combine`."""
        return job.body.combine(job.context, payload["parts"])

    def _finish(self, job: Job, payload: Json) -> Json:
        """Run `finish`."""
        fault = self._points.hit if faults.ON else None
        control = FinishControl(self._words, publish=True, fault=fault)
        job.context.combined = payload.get("combined") or {}
        amended = job.body.finish(job.context, payload["prepared"], control)
        return {"result": amended} if amended else {}

    def _restore(self, job: Job, payload: Json) -> Json:
        """Run `restore`."""
        job.body.restore(job.context, payload["prepared"])
        return {}


_OPERATIONS: dict[Op, Callable[[Steps, Job, Json], Json]] = {
    Op.PREPARE: Steps._prepare,
    Op.UNDO: Steps._undo,
    Op.COMBINE: Steps._combine,
    Op.FINISH: Steps._finish,
    Op.RESTORE: Steps._restore,
}
