"""All parts of a daemon, made and connected: none of them runs yet, and each reports to the daemon's life."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from ktaskd.api.state import Reloaded
from ktaskd.daemon.application import Application
from ktaskd.daemon.build import build
from ktaskd.daemon.settings import Config, FunctionSettings, WorkerSettings
from ktaskd.daemon.start import Start
from ktaskd.door.sockets.listener import open_listeners
from ktaskd.door.sockets.rundir import RuntimeDir
from ktaskd.model.allowance import Allowance, Mode


@dataclass
class Recorded:
    """A life that only records what the parts report."""

    config: Config
    stopping: bool = False
    seen: list[str] = field(default_factory=list)

    def stop(self) -> None:
        self.seen.append("stop")

    def status(self) -> str:
        return "recorded"

    def on_change(self) -> None:
        self.seen.append("change")

    def on_idle(self) -> None:
        self.seen.append("idle")

    def on_allowance(self, allowance: Allowance) -> None:
        self.seen.append("allowance")

    def on_lost(self) -> None:
        self.seen.append("lost")

    def reload(self) -> Reloaded:
        return Reloaded()

    async def set_draining(self, draining: bool) -> None:
        self.seen.append("draining")


@asynccontextmanager
async def built(place: Path) -> AsyncIterator[tuple[Application, Recorded]]:
    config = replace(Config(), workers=WorkerSettings(idle_group="never"), functions=FunctionSettings(dir=""))
    runtime = RuntimeDir.claim(place)
    listeners = open_listeners(runtime, mode=0o600, environ={})
    life = Recorded(config)
    app = build(Start(config, lambda: config, runtime, listeners, selftest=True), life)
    try:
        yield app, life
    finally:
        app.upkeep.giving_back.close()
        app.upkeep.idle_end.idle(0.0)
        app.governor.close()
        await app.watch.close()
        app.engine.close()
        app.callers.close()
        await asyncio.gather(*(pool.close(1.0) for pool in app.workers.pools), app.doors.keepers.close())
        app.closer.shutdown()
        app.workers.raiser.close()
        listeners.close()
        runtime.close()


def test_parts_when_made_then_no_process_runs_and_no_client_is_served(reachable_dir: Path) -> None:
    before = psutil.Process().children()

    async def test() -> None:
        async with built(reachable_dir / "run") as (app, life):
            assert app.workers.pools.pids() == []
            assert psutil.Process().children() == before
            assert app.doors.counts() == dict.fromkeys(app.doors.counts(), 0)
            assert (app.doors.held_bytes(), life.seen) == (0, [])

    asyncio.run(test())


def test_parts_when_something_happens_then_the_life_learns_of_it(reachable_dir: Path) -> None:
    async def test() -> None:
        async with built(reachable_dir / "run") as (app, life):
            app.engine.on_idle()
            app.doors.entry.on_change()
            app.governor.set_mode(Mode.PAUSED)
            assert life.seen == ["idle", "change", "allowance"]

    asyncio.run(test())


def test_work_of_a_user_when_the_engine_counts_it_then_its_turns_pay(reachable_dir: Path) -> None:
    async def test() -> None:
        async with built(reachable_dir / "run") as (app, _):
            user = app.doors.entry.turns.find(os.geteuid())
            before = user.spent_s
            app.engine.on_cost(app.doors.entry.reception.identify(1, os.geteuid(), 1), 0.25)
            assert user.spent_s == before + 0.25

    asyncio.run(test())


def test_watchdog_when_the_private_socket_is_not_there_then_it_finds_that(reachable_dir: Path) -> None:
    async def test() -> None:
        async with built(reachable_dir / "run") as (app, _):
            assert app.upkeep.watchdog._check().endswith("grpc.sock is gone")

    asyncio.run(test())
