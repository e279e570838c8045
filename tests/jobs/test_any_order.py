"""The books are right whatever workers, callers and the governor do, in any order.

Guards: I1, I3, I6
Tests: ktaskd/jobs/engine.py
"""

from __future__ import annotations

import pytest

from tests.jobs import trace
from tests.jobs.chaos import SEEDS


@pytest.mark.parametrize("seed", range(SEEDS))
def test_jobs_when_anything_happens_in_any_order_then_the_books_are_right_and_all_end(seed: int) -> None:
    # The simulation asserts the first half of the name at each step, and the story itself the second.
    assert trace.digest(trace.lines_of(seed)) == trace.committed()[seed], (
        f"workers were sent something else than before; compare `python -m tests.jobs.trace {seed}` with the "
        "commit before, and explain each difference in the message of the commit that makes it "
        "(`python -m tests.jobs.trace --write`)"
    )
