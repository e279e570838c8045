"""Accounts that stay small and never fall."""

from __future__ import annotations

from collections import Counter

from ktaskd.metrics.ledger import (
    FUNCTIONS_MAX,
    REASONS_MAX,
    SERIES_MAX,
    USERS_MAX,
    Ended,
    Ledger,
    Usage,
)
from ktaskd.model.worker import WorkerClass


def test_ended_when_there_are_many_users_then_the_rest_is_one() -> None:
    ledger = Ledger()
    for uid in range(3 * USERS_MAX):
        ledger.note_ended(Ended(Usage("f", uid, 1, 1, 1), "succeeded", 0.0, 1.0))
    assert ledger.ended["f", "succeeded", 0] == 1
    assert ledger.ended["f", "succeeded", None] == 2 * USERS_MAX
    assert len(ledger.ended) == USERS_MAX + 1
    assert ledger.cpu_ns[WorkerClass.LEAD, None] == 2 * USERS_MAX
    assert len(ledger.cpu_ns) == 2 * (USERS_MAX + 1)


def test_ended_when_there_are_many_functions_then_the_rest_is_one() -> None:
    ledger = Ledger()
    for i in range(2 * FUNCTIONS_MAX):
        ledger.note_ended(Ended(Usage(f"f{i}", 0, 3), "failed", 0.0, 1.0))
    assert ledger.ended["other", "failed", 0] == FUNCTIONS_MAX
    assert ledger.volume["other"] == 3 * FUNCTIONS_MAX
    assert len(ledger.run) == len(ledger.volume) == FUNCTIONS_MAX + 1


def test_ended_when_there_are_many_combinations_then_the_user_is_left_out_and_none_is_lost() -> None:
    ledger, jobs = Ledger(), 0
    for i in range(FUNCTIONS_MAX):
        for uid in range(USERS_MAX):
            ledger.note_ended(Ended(Usage(f"f{i}", uid), "succeeded", 0.0))
            jobs += 1
    assert jobs > SERIES_MAX
    assert ledger.ended.total() == jobs
    assert len(ledger.ended) <= SERIES_MAX + FUNCTIONS_MAX


def test_waited_when_there_are_many_reasons_then_the_rest_is_one() -> None:
    ledger = Ledger()
    for i in range(2 * REASONS_MAX):
        ledger.note_waited(f"R{i}", 0.5)
    assert ledger.waited_s["other"] == 0.5 * REASONS_MAX
    assert len(ledger.waited_s) == REASONS_MAX + 1


def test_running_when_the_job_ends_then_the_sums_are_the_same() -> None:
    ledger, usage = Ledger(), Usage("f", 7, 100, 5, 6)
    ledger.note_ended(Ended(usage, "succeeded", 0.0, 1.0))
    while_running = ledger.with_running([usage])
    assert ledger.volume == Counter(f=100)
    ledger.note_ended(Ended(usage, "succeeded", 0.0, 1.0))
    assert ledger.with_running([]) == while_running
    assert while_running[1] == {(WorkerClass.LEAD, 7): 10, (WorkerClass.HELPER, 7): 12}
