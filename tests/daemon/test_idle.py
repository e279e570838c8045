"""The end of an idle daemon."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.daemon.idle import IdleEnd, held_s
from ktaskd.model.allowance import Mode

NOW_S = 1000.0


@dataclass(frozen=True)
class Ended:
    """The attributes of a job that count here."""

    ended_boot_s: float
    detached: bool


times = st.floats(0, NOW_S)
jobs = st.lists(st.builds(Ended, times, st.booleans()), max_size=6)


def held(mode: Mode, ends_s: float | None, ended: Any, keep_s: float) -> float:
    return held_s(mode, ends_s, ended, keep_s=keep_s, now_s=NOW_S)


@given(st.sampled_from(Mode), st.none() | st.floats(NOW_S, 2 * NOW_S), jobs, st.floats(0, 2 * NOW_S))
def test_held_when_anything_would_be_lost_then_exactly_for_that_long(
    mode: Mode, ends_s: float | None, ended: list[Ended], keep_s: float
) -> None:
    left_s = held(mode, ends_s, ended, keep_s)
    assert left_s >= 0
    for job in ended:
        if job.detached:
            assert job.ended_boot_s + keep_s <= NOW_S + left_s + 1e-6
    if mode is Mode.AUTO:
        assert left_s <= keep_s + 1e-6
        assert left_s == 0 or any(job.detached for job in ended)
    else:
        assert left_s == math.inf if ends_s is None else left_s >= ends_s - NOW_S - 1e-6


def test_held_when_a_job_was_waited_for_then_its_result_is_with_its_caller() -> None:
    assert held(Mode.AUTO, None, [Ended(NOW_S, False)], 600.0) == 0
    assert held(Mode.AUTO, None, [Ended(NOW_S - 100, True)], 600.0) == 500


def test_idle_when_something_is_held_then_it_ends_right_after_that() -> None:
    async def story() -> list[str]:
        left, said = [0.01, 0.01, 0.0], list[str]()
        stopped = asyncio.Event()

        def next_s() -> float:
            said.append("asked")
            return left.pop(0)

        def stop() -> None:
            said.append("stop")
            stopped.set()

        end = IdleEnd(next_s, stop)
        end.idle(0.01)
        await stopped.wait()
        return said

    assert asyncio.run(story()) == ["asked", "asked", "asked", "stop"]


def test_idle_when_held_without_an_end_or_used_again_then_no_timer_is_left() -> None:
    async def story() -> int:
        asked = asyncio.Event()

        def forever() -> float:
            asked.set()
            return math.inf

        end = IdleEnd(forever, lambda: None)
        end.idle(0.01)
        await asked.wait()
        end.idle(100.0)
        end.idle(0.0)
        return sum(not timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    assert asyncio.run(story()) == 0
