"""The delay before a dead worker is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktaskd.pool.respawn import BACKOFF_FIRST_S, BACKOFF_MAX_S, STABLE_S, respawn_delay


@pytest.mark.parametrize(
    ("lived_s", "was_busy", "early_deaths", "wanted"),
    [
        (0.0, True, 0, (0.0, 0)),
        (0.0, True, 16, (0.0, 0)),
        (STABLE_S, False, 9, (0.0, 0)),
        (0.9 * STABLE_S, False, 0, (BACKOFF_FIRST_S, 1)),
        (0.0, False, 1, (2 * BACKOFF_FIRST_S, 2)),
        (0.0, False, 6, (6.4, 7)),
        (0.0, False, 7, (BACKOFF_MAX_S, 8)),
        (0.0, False, 16, (BACKOFF_MAX_S, 16)),
    ],
)
def test_respawn_when_dead_then_after_so_long(
    lived_s: float, was_busy: bool, early_deaths: int, wanted: tuple[float, int]
) -> None:
    delay_s, deaths = respawn_delay(lived_s=lived_s, was_busy=was_busy, early_deaths=early_deaths)
    assert deaths == wanted[1]
    assert delay_s == pytest.approx(wanted[0])


@given(st.integers(1, 40))
def test_respawn_when_it_dies_at_once_each_time_then_ever_longer_and_bounded(times: int) -> None:
    deaths, last_s = 0, 0.0
    for _ in range(times):
        delay_s, deaths = respawn_delay(lived_s=0.0, was_busy=False, early_deaths=deaths)
        assert last_s <= delay_s <= BACKOFF_MAX_S
        last_s = delay_s
