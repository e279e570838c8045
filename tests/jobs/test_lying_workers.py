"""Code that is not ours may send anything in its worker's name; no message breaks the daemon.

An exception in a callback of the event loop ends the daemon, and with it the jobs of all users.

Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ktaskd.api.convert import job_out
from ktaskd.model.function import Declaration
from ktaskd.model.limits import POSITION_MAX
from ktaskd.model.worker import WorkerState
from ktaskd.worker import frames
from ktaskd.worker.frames import Done, FrameInvalid
from ktaskd.worker.messages import Ready, parse
from tests.jobs.simulated import READER, REWRITER, STEPS, WRITER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker

KINDS = (frames.PRIOR, frames.REPLY, frames.FAILED, frames.PLANNED, frames.RESTS, frames.WAKES)
DECLARATIONS = (READER, STEPS, WRITER, REWRITER)


def _position(random: Random) -> int:
    return random.choice((0, 1, 7, 10, 20, 40, 41, POSITION_MAX))


def _pairs(random: Random) -> list[list[int]]:
    return [[_position(random), _position(random)] for _ in range(random.randrange(4))]


def _anything(random: Random) -> Any:
    deep: list[Any] = []
    for _ in range(random.choice((3, 25))):
        deep = [deep]
    return random.choice((None, True, -1, 10**400, 0.5, float("inf"), "a\udcff", [], {}, deep, {"n": deep}))


def _body(random: Random) -> dict[str, Any]:
    body = {
        "start": _position(random),
        "end": _position(random),
        "holes": _pairs(random),
        "dirty": _pairs(random),
        "cpu_ns": random.choice((0, 1, 2**63 - 1)),
        "errno": random.choice((0, 5, 125)),
        "message": "m",
        "value": {
            "n": _anything(random),
            "result": _anything(random),
            "kept": _pairs(random),
            "by_prepare": _pairs(random),
            "by_finish": _pairs(random),
        },
    }
    for name in random.sample(sorted(body), random.choice((0, 0, 1, 2))):
        body[name] = _anything(random)
    return body


def _part(random: Random) -> bytes:
    return random.choice((b"", b"{", b"7", b'{"n": 1}', json.dumps({"n": _anything(random)}).encode()))


def _frame(random: Random, worker: SimulatedWorker) -> bytes:
    seq = random.choice((worker.queue[0][0], worker.queue[0][0], 0, 99))
    if random.random() < 0.3:
        return frames.pack_done(seq, _position(random), random.choice((0, 2**64 - 1)), _part(random))
    return frames.pack_note(random.choice(KINDS), seq, _body(random))


def _lie(sim: Simulation, worker: SimulatedWorker, random: Random) -> None:
    """As `pool.link` reads a frame. An answer that was believed ends what the worker holds."""
    try:
        message = parse(_frame(random, worker))
    except FrameInvalid as error:
        worker.kill(str(error))
        return
    assert not isinstance(message, Ready)
    if isinstance(message, Done):
        sim.engine.on_done(worker, message)
    else:
        sim.engine.on_report(worker, message)
    job = sim.dispatch.job_of.get(worker)
    held = set(job.crew.held.get(worker, ())) if job is not None else set()
    if job is not None and job.crew.step_worker is worker:
        held.add(job.crew.step_seq)
    worker.queue[:] = [sent for sent in worker.queue if sent[0] in held]


def _bury(sim: Simulation) -> None:
    for worker in list(sim.workers):
        if worker.is_killed or worker.state is WorkerState.STOPPING:
            worker.die()


def declared(random: Random) -> Declaration:
    return replace(random.choice(DECLARATIONS), own=random.random() < 0.5)


@pytest.mark.parametrize("seed", range(40))
def test_worker_when_it_sends_anything_then_no_exception_and_every_job_ends(seed: int) -> None:
    random = Random(seed)

    async def story(sim: Simulation) -> None:
        sim.look = lambda: None  # type: ignore[method-assign]
        sim.touch = lambda *_, **__: None  # type: ignore[method-assign]
        jobs = [sim.submit(declared(random), 40, waited=random.random() < 0.5, uid=i % 2) for i in range(6)]
        for _ in range(400):
            sim.fill()
            busy = [worker for worker in sim.workers if worker.queue and not worker.is_killed]
            if not busy:
                break
            worker = random.choice(busy)
            worker.begin()
            if random.random() < 0.5 and worker.queue[0][1] != "combine":
                worker.answer()
            else:
                _lie(sim, worker, random)
            _bury(sim)
        for job in jobs:
            assert job.state.ended, sim.describe(job)
            assert job_out(job).SerializeToString()

    play(story)
