"""Moves simulated workers on, one by one."""

from __future__ import annotations

from tests.jobs.simulated import Simulation
from tests.jobs.simulated_worker import SimulatedWorker


def worker_of(sim: Simulation, *, lead: bool) -> SimulatedWorker:
    return next(worker for worker in sim.workers if worker.is_lead is lead and worker.queue)


def do(worker: SimulatedWorker) -> None:
    """Work off what it was sent first."""
    worker.begin()
    worker.answer()


def finish(sim: Simulation) -> None:
    """Let everybody work off what there is."""
    while any(worker.queue for worker in sim.workers):
        for worker in list(sim.workers):
            if worker.queue:
                do(worker)
