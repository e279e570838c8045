"""Seeded stories in which workers, callers and the governor do anything, in any order.

After every step the stage looks whether what must hold does hold, and at the end of
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
from tests.jobs.puppet import Puppet
from tests.jobs.puppets import READER, REWRITER, SLEEPER, STEPS, WRITER, Stage, play

SEEDS = 80
STEPS_PER_STORY = 150


class Chaos:
    """Does anything that can happen."""

    def __init__(self, stage: Stage, random: Random, *, guests: bool) -> None:
        self.stage, self.random, self.guests = stage, random, guests
        stage.puller.works = lambda: random.random() < 0.6

    def _busy(self) -> Puppet | None:
        busy = [worker for worker in self.stage.workers if worker.queue and not worker.is_dead]
        return self.random.choice(busy) if busy else None

    def _unended(self) -> Job | None:
        jobs = self.stage.registry.running
        return self.random.choice(jobs) if jobs else None

    def submit(self) -> None:
        random = self.random
        if self.stage.registry.unended < 6:
            self.stage.submit(
                random.choice([READER, READER, STEPS, WRITER, REWRITER, SLEEPER]),
                random.choice([2, 20, 60]),
                waited=random.random() < 0.6,
                threads=random.randint(1, 4),
                chunk=random.choice([1, 5, 20]),
                uid=random.randint(1, 2),
                pid=random.randint(1, 2),
                quota=random.choice([0.0, 0.0, 0.01, 0.5]),
                guest=self.guests and random.random() < 0.3,
                nids=random.choice([(-1,), (0,), (0, 1)]) if len(self.stage.topology.nodes) > 1 else (-1,),
            )

    def work(self) -> None:
        worker = self._busy()
        if worker is None:
            return
        if not worker.begun:
            if worker.recalled and worker.queue[0][1] == "chunk":
                worker.begin()
                worker.answer(whole=False)
                return
            worker.begin()
        worker.get_on(self.random)
        chunk = worker.queue[0][1] == "chunk"
        if chunk and worker.recalled and self.random.random() < 0.7:
            worker.answer(whole=False)
        elif self.random.random() < 0.6:
            worker.answer()

    def fail(self) -> None:
        worker = self._busy()
        if worker is not None and self.random.random() < 0.3:
            if not worker.begun:
                worker.begin()
            worker.fail()

    def die(self) -> None:
        if not self.stage.workers:
            return
        worker = self.random.choice(self.stage.workers)
        if worker.queue and self.random.random() < 0.5:
            worker.begin()
            worker.get_on(self.random)
        if worker.is_killed or self.random.random() < 0.3:
            worker.die(self.random.choice([9, 11, None]))

    def starve(self) -> None:
        if self.stage.workers:
            worker = self.random.choice(self.stage.workers)
            worker.share = self.random.choice([0.0, 0.0, 0.3, 1.0])
            worker.runnable = self.random.random() < 0.7
            worker.asleep_as = self.random.choice("SDT")

    def cancel(self) -> None:
        job = self._unended()
        if job is not None and self.random.random() < 0.3:
            if job.guards and self.random.random() < 0.5:
                self.stage.engine.unguard(job, "DEADLINE")
            else:
                self.stage.engine.cancel(job)

    def allow(self) -> None:
        full, random = self.stage.full, self.random
        level = random.choice(list(Level))
        count = {Level.RUN: 2, Level.FEWER: 1}.get(level, 0)
        helpers = {nid: count for nid in full.helpers}
        self.stage.engine.set_allowance(replace(full, helpers=helpers, level=level))

    def limit(self) -> None:
        job = self._unended()
        if job is not None:
            self.stage.set_quota(job, self.random.choice([0.0, 0.01, 1.0]))

    async def wait(self) -> None:
        await asyncio.sleep(self.random.choice([0.001, 0.01, 0.05, 0.3, 1.0, 4.0]))

    async def step(self) -> None:
        acts = [self.work] * 10 + [self.submit] * 3 + [self.starve] * 2
        acts += [self.fail, self.die, self.cancel, self.allow, self.limit, self.stage.fill, self.stage.fill]
        if self.random.random() < 0.3:
            await self.wait()
        else:
            self.random.choice(acts)()
        self.stage.look()

    def _all_answer(self) -> None:
        self._bury()
        self.stage.fill()
        for worker in list(self.stage.workers):
            worker.share = 1.0
            if worker.queue and not worker.is_killed:
                if not worker.begun:
                    worker.begin()
                worker.answer()

    def _bury(self) -> None:
        for worker in list(self.stage.workers):
            if worker.is_killed or worker.state is WorkerState.STOPPING:
                worker.die()

    async def heal(self) -> None:
        """All get well, and every job ends."""
        stage = self.stage
        stage.puller.works = lambda: True
        stage.engine.set_allowance(stage.full)
        for _ in range(600):
            self._all_answer()
            if not stage.registry.unended:
                break
            await asyncio.sleep(0.02 if any(worker.queue for worker in stage.workers) else 0.5)
        assert not stage.registry.unended, "\n".join(map(stage.describe, stage.registry.running))
        # What was lowered too soon after it was raised is lowered a little later.
        await asyncio.sleep(1.0)
        for worker in stage.workers:
            assert not worker.record.raised
        assert not any(worker.is_high for worker in stage.workers), "raised and not lowered"
        self._bury()


def tell(seed: int, watch: Callable[[Stage], None] = lambda _: None) -> None:
    """Play the story of this seed; `watch` sees the stage before it begins."""
    random = Random(seed)

    async def story(stage: Stage) -> None:
        watch(stage)
        chaos = Chaos(stage, random, guests=seed % 3 == 0)
        stage.fill()
        for _ in range(STEPS_PER_STORY):
            await chaos.step()
        await chaos.heal()

    play(story, nodes=1 + seed % 2, leads=random.randint(1, 3), raises=seed % 4 != 3)
