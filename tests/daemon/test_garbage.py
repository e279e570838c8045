"""Full collections: short ones change nothing, and a long one is not repeated.

Guards: I12
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from ktaskd.daemon import garbage
from ktaskd.daemon.garbage import QUIET_S, Garbage
from tests.door.virtual import VirtualLoop


@pytest.fixture
def watched() -> Iterator[Garbage]:
    made = Garbage()
    made.start()
    yield made
    made.stop()
    gc.unfreeze()


def test_collection_when_short_then_nothing_is_frozen(
    watched: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "LONG_S", float("inf"))
    before = gc.get_freeze_count()
    gc.collect()
    assert (watched.frozen, gc.get_freeze_count()) == (0, before)


def test_collection_when_long_then_what_survives_is_not_looked_at_again(
    watched: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "LONG_S", 0.0)
    before = gc.get_freeze_count()
    kept = [[i] for i in range(10_000)]
    gc.collect(0)
    gc.collect(1)
    assert watched.frozen == 0
    gc.collect()
    assert watched.frozen == 1
    assert gc.get_freeze_count() >= before + len(kept)


def test_frozen_when_it_refers_to_itself_then_found_in_the_end(
    watched: Garbage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "LONG_S", 0.0)

    class Ring:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            gone.append(1)

    gone: list[int] = []
    ring: Ring | None = Ring()
    gc.collect()
    ring = None
    gc.collect()
    assert (ring, gone) == (None, []), "frozen"
    watched.look_through()
    assert gone == [1]
    assert watched.frozen == 0, "its own collection does not count"


def test_looking_through_when_the_daemon_is_busy_then_when_it_is_not(
    watched: Garbage,
) -> None:
    async def test() -> None:
        watched.frozen = 1
        waits = [True, True, False]
        watched.look_through_soon(lambda: waits.pop(0))
        await asyncio.sleep(2.5 * QUIET_S)
        assert (watched.frozen, waits) == (1, [False])
        await asyncio.sleep(QUIET_S)
        assert (watched.frozen, waits) == (0, [])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())
