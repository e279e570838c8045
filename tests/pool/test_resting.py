"""A worker that rests looks at no flag: it has to be woken.

Tests: ktaskd/pool/pool.py
"""

from __future__ import annotations

import pytest

from ktaskd.worker import frames
from tests.pool.realpool import pool, run


@pytest.mark.parametrize("rests_first", [True, False])
def test_worker_when_recalled_while_it_rests_then_it_is_woken_once(
    rests_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with pool(1, warm=1) as (made, events):
            await events.until(lambda: len(events.ready) == 1)
            (worker,) = made.workers
            sent: list[bytes] = []
            monkeypatch.setattr(worker, "_send", sent.append)
            worker.send_chunk(1, 0, 10)
            sent.clear()
            if rests_first:
                worker.note_rest(resting=True)
                assert sent == []
            worker.recall()
            if not rests_first:
                assert sent == []
                worker.note_rest(resting=True)
            assert [frame[0] for frame in sent] == [frames.NUDGE]

    run(story())
