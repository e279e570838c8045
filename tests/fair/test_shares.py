"""Equal shares by uid, in a simulation: no process, no clock."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.jobs.fairshare import Shares


class Machine:
    """Workers that serve uids in the order that the shares give.

    Args:
        chunk_s: CPU seconds of every chunk of each uid.
        at_once: the most workers of a uid at the same time, like a job's limit; a uid that
            is not named takes all that it can get.
    """

    def __init__(
        self, workers: int, chunk_s: dict[int, float], at_once: dict[int, int] | None = None
    ) -> None:
        self.shares = Shares()
        self.chunk_s = chunk_s
        self.had_s: defaultdict[int, float] = defaultdict(float)
        self.now_s = 0.0
        self._at_once = at_once or {}
        self._workers = workers
        self._running: list[tuple[float, int, float]] = []
        self._of: Counter[int] = Counter()
        self._waits: set[int] = set()
        self.wanted: set[int] = set()

    def want(self, uid: int, wanted: bool = True) -> None:
        """Give the uid an endless supply of chunks, or none."""
        (self.wanted.add if wanted else self.wanted.discard)(uid)
        self._line_up(uid)

    def _line_up(self, uid: int) -> None:
        waits = uid in self.wanted and self._of[uid] < self._at_once.get(uid, self._workers)
        if waits and uid not in self._waits:
            self._waits.add(uid)
            self.shares.enter(uid)
        elif not waits and uid in self._waits:
            self._waits.remove(uid)
            self.shares.leave(uid)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end_s = self.now_s + seconds
        while True:
            while len(self._running) < self._workers and self._waits:
                self._give(min(self._waits, key=self.shares.had))
            if not self._running or self._running[0][0] > end_s:
                self.now_s = end_s
                return
            self._end()

    def _give(self, uid: int) -> None:
        self.shares.hold(uid)
        self._of[uid] += 1
        likely_s = self.shares.likely_s(uid)
        self.shares.charge(uid, likely_s)
        heapq.heappush(self._running, (self.now_s + self.chunk_s[uid], uid, likely_s))
        self._line_up(uid)

    def _end(self) -> None:
        self.now_s, uid, likely_s = heapq.heappop(self._running)
        cost_s = self.chunk_s[uid]
        self.had_s[uid] += cost_s
        self.shares.charge(uid, cost_s - likely_s)
        self._of[uid] -= 1
        self.shares.let_go(uid, cost_s)
        self._line_up(uid)


CHUNKS = st.floats(0.05, 2.0)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.lists(CHUNKS, min_size=2, max_size=6))
def test_uids_when_their_chunks_differ_then_within_a_chunk_of_each_worker(
    workers: int, chunks: list[float]
) -> None:
    machine = Machine(workers, dict(enumerate(chunks)))
    for uid in machine.chunk_s:
        machine.want(uid)
    machine.run(20.0)
    for uid, other in [(a, b) for a in machine.chunk_s for b in machine.chunk_s]:
        # One chunk of each uid on every worker, and one more that is not assigned yet.
        bound_s = (workers + 1) * (chunks[uid] + chunks[other])
        assert machine.had_s[uid] - machine.had_s[other] <= bound_s


@settings(deadline=None, max_examples=50)
@given(CHUNKS, CHUNKS, st.floats(0.1, 50.0))
def test_uid_when_it_paused_then_it_gains_nothing(mine: float, others: float, pause_s: float) -> None:
    machine = Machine(1, {1: mine, 2: others, 3: others})
    for uid in (1, 2, 3):
        machine.want(uid)
    machine.run(10.0)
    machine.want(1, False)
    machine.run(pause_s)
    machine.want(1)
    before = machine.had_s.copy()
    machine.run(30.0)
    gained = {uid: had_s - before[uid] for uid, had_s in machine.had_s.items()}
    assert gained[1] <= min(gained[2], gained[3]) + 2 * (mine + others)


def test_uid_when_its_jobs_cannot_use_its_share_then_it_has_not_saved_up() -> None:
    machine = Machine(8, {1: 0.1, 2: 0.1}, at_once={1: 1})
    machine.want(1)
    machine.want(2)
    machine.run(100.0)
    assert machine.had_s[2] > 6 * machine.had_s[1], "one has one worker, the other all the rest"
    machine._at_once.clear()
    machine._line_up(1)
    before = machine.had_s.copy()
    machine.run(10.0)
    gained = {uid: had_s - before[uid] for uid, had_s in machine.had_s.items()}
    assert abs(gained[1] - gained[2]) < 4.0, f"from now on equal, got {gained}"


def test_uid_when_it_sends_one_long_chunk_after_the_other_then_it_is_charged_for_them() -> None:
    """Between two jobs the uid wants nothing, but holds a worker."""
    shares = Shares()
    shares.enter(2)
    for _ in range(20):
        shares.enter(1)
        shares.hold(1)
        shares.charge(1, 0.005)
        shares.leave(1)
        for _ in range(3):  # meanwhile the other one has short ones
            shares.hold(2)
            shares.charge(2, 0.1)
            shares.let_go(2, 0.1)
        shares.charge(1, 10.0 - 0.005)
        shares.let_go(1, 10.0)
    assert shares.had(1) >= 200.0
    assert shares.likely_s(1) > 9.0


def test_uids_when_all_are_gone_then_nothing_is_remembered() -> None:
    shares = Shares()
    for uid in range(100):
        shares.enter(uid)
        shares.hold(uid)
        shares.charge(uid, 1.0)
        shares.leave(uid)
        shares.let_go(uid, 1.0)
    assert len(shares) == 0
    assert shares.had(7) == 0.0


def test_uids_when_they_come_and_go_beside_one_that_stays_then_memory_is_bounded() -> None:
    machine = Machine(2, dict.fromkeys(range(1001), 0.01))
    machine.want(0)
    for uid in range(1, 1001):
        machine.want(uid)
        machine.run(0.05)
        machine.want(uid, False)
        assert len(machine.shares) <= 32


@given(st.lists(st.tuples(st.sampled_from("elhgc"), st.integers(0, 3), st.floats(0, 9)), max_size=60))
def test_shares_when_used_in_any_order_then_who_begins_to_wait_is_not_behind_the_clock(
    steps: list[tuple[str, int, float]],
) -> None:
    shares = Shares()
    waiting, holding = Counter[int](), Counter[int]()
    clock_s = 0.0
    for step, uid, seconds in steps:
        if step == "e":
            shares.enter(uid)
            assert waiting[uid] or shares.had(uid) >= clock_s
            waiting[uid] += 1
        elif step == "l" and waiting[uid]:
            waiting[uid] -= 1
            shares.leave(uid)
        elif step == "h" and waiting[uid]:
            clock_s = max(clock_s, shares.had(uid))
            holding[uid] += 1
            shares.hold(uid)
        elif step == "g" and holding[uid]:
            holding[uid] -= 1
            shares.let_go(uid, seconds)
        elif step == "c":
            shares.charge(uid, seconds)
        if not waiting.total() and not holding.total():
            clock_s = 0.0
            assert len(shares) == 0


def test_uids_when_others_are_forgotten_then_not_who_waits_or_holds_a_worker() -> None:
    shares = Shares()
    for uid in (1, 2):
        shares.enter(uid)
        shares.hold(uid)
        shares.charge(uid, 5.0)
    shares.leave(2)  # holds, and waits no more
    shares.hold(1)
    for uid in range(100, 200):
        shares.enter(uid)
        shares.leave(uid)
    assert (shares.had(1), shares.had(2)) == (5.0, 5.0)
    assert len(shares) < 32
