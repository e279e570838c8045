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
