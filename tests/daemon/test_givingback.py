"""Memory goes back to the machine when it has grown and is free again."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ktaskd.daemon.givingback import QUIET_S, WORTH_BYTES, GivingBack
from tests.door.virtual import VirtualLoop

MIB = 1024 * 1024


@dataclass
class Process:
    size: int = 50 * MIB
    free: int = 0
    held: int = 0
    trims: int = 0

    def trim(self) -> bool:
        self.trims += 1
        self.size, self.free = self.size - self.free, 0
        return True


async def rested(process: Process, giving_back: GivingBack, seconds: float = 2 * QUIET_S) -> int:
    giving_back.note()
    await asyncio.sleep(seconds)
    while giving_back._trimming is not None:
        await asyncio.sleep(0.01)
    return process.trims


def test_memory_when_a_load_is_over_then_given_back_once() -> None:
    async def test() -> None:
        process = Process()
        giving_back = GivingBack(lambda: process.size, process.trim, lambda: process.held)
        assert await rested(process, giving_back) == 0, "nothing has grown"
        process.size, process.free, process.held = 200 * MIB, 150 * MIB, 2 * WORTH_BYTES
        assert await rested(process, giving_back, 10.0) == 0, "it is still in use"
        process.held = 0
        assert await rested(process, giving_back) == 1
        assert process.size == 50 * MIB
        assert await rested(process, giving_back) == 1
        process.size += 2 * WORTH_BYTES  # memory that lives on
        assert await rested(process, giving_back) == 2
        assert await rested(process, giving_back) == 2, "it was of no use the last time"
        giving_back.note()
        giving_back.close()
        assert giving_back._timer is None

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


def test_memory_when_freed_after_a_trim_that_found_it_in_use_then_given_back_as_well() -> None:
    async def test() -> None:
        process = Process()
        giving_back = GivingBack(lambda: process.size, process.trim, lambda: process.held)
        process.size, process.free = 100 * MIB, 10 * MIB
        assert await rested(process, giving_back) == 1
        assert process.size == 90 * MIB, "jobs that have ended are kept"
        process.free = 40 * MIB
        giving_back.note(2 * WORTH_BYTES)
        assert await rested(process, giving_back) == 2, "it has not grown, and has let go"
        assert process.size == 50 * MIB
        assert await rested(process, giving_back) == 2

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


def test_memory_when_no_thread_can_be_started_then_given_back_later() -> None:
    async def test() -> None:
        process, loop = Process(), asyncio.get_running_loop()
        threads = Threads(1)
        loop.set_default_executor(threads)
        told: list[object] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        giving_back = GivingBack(lambda: process.size, process.trim, lambda: process.held)
        process.size, process.free = 200 * MIB, 150 * MIB
        threads.none_left = True
        assert await rested(process, giving_back) == 0
        threads.none_left = False
        assert await rested(process, giving_back) == 1
        assert told == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())


class Threads(ThreadPoolExecutor):
    """Threads of a machine that cannot start any for a while."""

    none_left = False

    def submit(self, *args: Any, **options: Any) -> Any:
        if self.none_left:
            raise RuntimeError("can't start new thread")
        return super().submit(*args, **options)
