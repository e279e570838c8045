"""Who is next: jobs of one user in order, users by what they have had."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.jobs.job import Job
from ktaskd.jobs.lines import Line, Lines, Shares
from tests.jobs.test_registry import ALICE, BOB, make_job


@given(st.data())
def test_line_when_changed_in_any_order_then_oldest_first(data: st.DataObject) -> None:
    jobs = [make_job() for _ in range(6)]
    line, model = Line(), set[Job]()
    for job, wanted in data.draw(st.lists(st.tuples(st.sampled_from(jobs), st.booleans()), max_size=30)):
        line.put(job, wanted)
        (model.add if wanted else model.discard)(job)
        ordered = sorted(model, key=lambda job: job.jno)
        assert list(line) == ordered
        assert line.first is (ordered[0] if ordered else None)
        assert len(line) == len(ordered)


def test_lines_when_one_uid_had_less_then_its_oldest_job_is_first() -> None:
    shares = Shares()
    lines = Lines(shares)
    first, second, bobs = make_job(ALICE), make_job(ALICE), make_job(BOB)
    for job in (first, second, bobs):
        shares.enter(job.owner.uid)
        lines.put(job, True)
    shares.charge(ALICE.uid, 1.0)
    assert lines.first is bobs
    assert lines.firsts() == [bobs, first]
    assert list(lines) == [bobs, first, second]
    shares.charge(BOB.uid, 2.0)
    assert lines.first is first
    assert len(lines) == 3
    for job in (first, second, bobs, bobs):
        lines.put(job, False)
    assert not lines
    assert lines.first is None


def test_share_when_a_uid_comes_back_then_it_has_not_saved_up() -> None:
    shares = Shares()
    shares.enter(1)
    shares.charge(1, 100.0)
    shares.enter(2)
    assert shares.had(2) == shares.had(1)
    shares.charge(2, 5.0)
    shares.leave(1)
    shares.enter(1)
    assert shares.had(1) == 105.0, "neither gained nor lost by a pause"
    shares.leave(1)
    shares.leave(2)
    shares.enter(1)
    assert shares.had(1) == 0.0, "nobody was there to compare with"


@given(st.lists(st.tuples(st.sampled_from("elc"), st.integers(0, 3), st.floats(0, 9)), max_size=40))
def test_shares_when_used_in_any_order_then_only_active_uids_are_below_the_floor(
    steps: list[tuple[str, int, float]],
) -> None:
    shares, active = Shares(), dict.fromkeys(range(4), 0)
    for step, uid, seconds in steps:
        if step == "e":
            floor = min(
                (shares.had(other) for other in active if active[other] and other != uid), default=0.0
            )
            shares.enter(uid)
            assert active[uid] or shares.had(uid) >= floor
            active[uid] += 1
        elif step == "l" and active[uid]:
            shares.leave(uid)
            active[uid] -= 1
        elif step == "c":
            shares.charge(uid, seconds)
    for uid, count in active.items():
        for _ in range(count):
            shares.leave(uid)
    assert not any(shares.had(uid) for uid in active)
