"""Seeded stories in which workers, callers and the governor do anything, in any order.

After every step the simulation looks whether what must hold does hold, and at the end of
each story everybody gets well and all jobs must end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

from ktaskd.jobs.job import Job
from ktaskd.model.allowance import Level
from ktaskd.model.worker import WorkerState
from tests.jobs.simulated import LEASED, READER, REWRITER, SLEEPER, STEPS, WRITER, Simulation, play
from tests.jobs.simulated_worker import SimulatedWorker

SEEDS = 160
FIRST_WITH_LEASES = 80
"""In the stories from this one on workers hold leases, where a function allows it."""
STEPS_PER_STORY = 150


class Chaos:
    """Does anything that can happen."""

    def __init__(self, sim: Simulation, random: Random, *, guests: bool, leases: bool = False) -> None:
        self.sim, self.random, self.guests = sim, random, guests
        self.kinds = [READER, READER, STEPS, WRITER, REWRITER, SLEEPER]
        if leases:
            self.kinds = [LEASED.get(kind, kind) for kind in self.kinds]
            sim.on_shorten = self._race
        sim.raiser.works = lambda: random.random() < 0.6

    def _busy(self) -> SimulatedWorker | None:
        busy = [worker for worker in self.sim.workers if worker.queue and not worker.is_dead]
        return self.random.choice(busy) if busy else None

    def _unended(self) -> Job | None:
        jobs = self.sim.registry.running
        return self.random.choice(jobs) if jobs else None

    def submit(self) -> None:
        random = self.random
        if self.sim.registry.unended < 6:
            self.sim.submit(
                random.choice(self.kinds),
                random.choice([2, 20, 60]),
                waited=random.random() < 0.6,
                threads=random.randint(1, 4),
                chunk=random.choice([1, 5, 20]),
                uid=random.randint(1, 2),
                pid=random.randint(1, 2),
                quota=random.choice([0.0, 0.0, 0.01, 0.5]),
                guest=self.guests and random.random() < 0.3,
                nids=random.choice([(-1,), (0,), (0, 1)]) if len(self.sim.topology.nodes) > 1 else (-1,),
            )

    def work(self) -> None:
        worker = self._busy()
        if worker is None:
            return
        if not worker.begun:
            if worker.recalled and worker.queue[0][1] in ("chunk", "lease"):
                worker.begin()
                worker.answer(whole=False)
                return
            worker.begin()
        worker.get_on(self.random)
        chunk = worker.queue[0][1] in ("chunk", "lease")
        if worker.queue[0][1] == "lease" and self.random.random() < 0.5:
            worker.report()
        elif chunk and worker.recalled and self.random.random() < 0.7:
            worker.answer(whole=False)
        elif self.random.random() < 0.6:
            worker.answer()

    def _race(self, worker: SimulatedWorker) -> None:
        if self.random.random() < 0.5:
            worker.claim_more(self.random)

    def fail(self) -> None:
        worker = self._busy()
        if worker is not None and self.random.random() < 0.3:
            if not worker.begun:
                worker.begin()
            worker.fail()

    def die(self) -> None:
        if not self.sim.workers:
            return
        worker = self.random.choice(self.sim.workers)
        if worker.queue and self.random.random() < 0.5:
            worker.begin()
            worker.get_on(self.random)
        if worker.is_killed or self.random.random() < 0.3:
            worker.die(self.random.choice([9, 11, None]))

    def starve(self) -> None:
        if self.sim.workers:
            worker = self.random.choice(self.sim.workers)
            worker.share = self.random.choice([0.0, 0.0, 0.3, 1.0])
            worker.runnable = self.random.random() < 0.7
            worker.asleep_as = self.random.choice("SDT")

    def cancel(self) -> None:
        job = self._unended()
        if job is not None and self.random.random() < 0.3:
            if job.guards and self.random.random() < 0.5:
                self.sim.engine.unguard(job, "DEADLINE")
            else:
                self.sim.engine.cancel(job)

    def allow(self) -> None:
        full, random = self.sim.full, self.random
        level = random.choice(list(Level))
        count = {Level.RUN: 2, Level.FEWER: 1}.get(level, 0)
        helpers = {nid: count for nid in full.helpers}
        self.sim.engine.set_allowance(replace(full, helpers=helpers, level=level))

    def limit(self) -> None:
        job = self._unended()
        if job is not None:
            self.sim.set_quota(job, self.random.choice([0.0, 0.01, 1.0]))

    async def wait(self) -> None:
        await asyncio.sleep(self.random.choice([0.001, 0.01, 0.05, 0.3, 1.0, 4.0]))

    async def step(self) -> None:
        acts = [self.work] * 10 + [self.submit] * 3 + [self.starve] * 2
        acts += [self.fail, self.die, self.cancel, self.allow, self.limit, self.sim.fill, self.sim.fill]
        if self.random.random() < 0.3:
            await self.wait()
        else:
            self.random.choice(acts)()
        self.sim.look()

    def _all_answer(self) -> None:
        self._bury()
        self.sim.fill()
        for worker in list(self.sim.workers):
            worker.share = 1.0
            if worker.queue and not worker.is_killed:
                if not worker.begun:
                    worker.begin()
                worker.answer()

    def _bury(self) -> None:
        for worker in list(self.sim.workers):
            if worker.is_killed or worker.state is WorkerState.STOPPING:
                worker.die()

    async def heal(self) -> None:
        """All get well, and every job ends."""
        sim = self.sim
        sim.raiser.works = lambda: True
        sim.engine.set_allowance(sim.full)
        for _ in range(600):
            self._all_answer()
            if not sim.registry.unended:
                break
            await asyncio.sleep(0.02 if any(worker.queue for worker in sim.workers) else 0.5)
        assert not sim.registry.unended, "\n".join(map(sim.describe, sim.registry.running))
        # A worker that was lowered too soon after it was raised is lowered a little later.
        await asyncio.sleep(1.0)
        for worker in sim.workers:
            assert not worker.record.raised
        assert not any(worker.is_high for worker in sim.workers), "raised and not lowered"
        self._bury()


def tell(seed: int, watch: Callable[[Simulation], None] = lambda _: None) -> None:
    """Play the story of this seed; `watch` sees the simulation before it begins."""
    random = Random(seed)

    async def story(sim: Simulation) -> None:
        watch(sim)
        chaos = Chaos(sim, random, guests=seed % 3 == 0, leases=seed >= FIRST_WITH_LEASES)
        sim.fill()
        for _ in range(STEPS_PER_STORY):
            await chaos.step()
        await chaos.heal()

    play(story, nodes=1 + seed % 2, leads=random.randint(1, 3), raises=seed % 4 != 3)
