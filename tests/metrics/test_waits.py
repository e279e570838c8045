"""Time that jobs wait, by looks now and then."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from ktaskd.jobs.job import Job
from ktaskd.metrics import waits
from ktaskd.metrics.waits import LOOK_JOBS, Waits
from ktaskd.model.allowance import Reason


def test_waits_when_jobs_report_reasons_then_their_time_adds_up_and_the_timer_ends_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waits, "LOOK_S", 0.001)

    async def story() -> None:
        loop, jobs = asyncio.get_running_loop(), cast(list[Job], [object()] * (3 * LOOK_JOBS))
        looked, added = list[object](), dict[str, float]()

        def reasons(job: Any) -> list[Reason]:
            looked.append(job)
            return [Reason("A", "x"), Reason("A", "y"), Reason("B", "z")]

        def add(code: str, seconds: float) -> None:
            added[code] = added.get(code, 0.0) + seconds

        watch = Waits(lambda: jobs, reasons, add)
        begin_s = loop.time()
        watch.note_job()
        watch.note_job()
        while not added:
            await asyncio.sleep(0.001)
        count, end_s = len(looked), loop.time()
        assert count % LOOK_JOBS == 0  # a part of them stands for all
        assert 3 * LOOK_JOBS * 0.001 <= added["A"] <= 3 * LOOK_JOBS * (end_s - begin_s) * 1.001
        assert added["A"] == pytest.approx(added["B"])
        jobs.clear()
        while watch._timer is not None:
            await asyncio.sleep(0.001)
        watch.note_job()
        watch.close()
        assert watch._timer is None

    asyncio.run(story())
