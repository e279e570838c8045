"""Which connection and which call comes in when, on a clock that is not real."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ktaskd.door.turns import (
    CALL_S,
    CONNECTION_S,
    HURRY,
    THERE_S,
    UNBEGUN_MAX,
    UNBEGUN_S,
    Queue,
    Ticket,
    Turns,
)
from tests.door.virtual import run

LOUD, QUIET = 1, 2


def now() -> float:
    return asyncio.get_running_loop().time()


class Crowd:
    """Asks for one uid, and notes when what came in."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.came: list[tuple[int, float]] = []
        self.asked = 0

    def ask(self, *, call: bool) -> Ticket | None:
        number = self.asked
        self.asked += 1
        ticket = self.queue.ask(lambda: self.came.append((number, now())), call=call)
        if ticket is None:
            self.came.append((number, now()))
        return ticket

    def pauses(self) -> list[float]:
        return [later - before for (_, before), (_, later) in zip(self.came, self.came[1:], strict=False)]


def test_call_when_one_after_the_other_then_never_waits() -> None:
    async def test() -> None:
        turns = Turns()
        loud, quiet = Crowd(turns.join(LOUD)), turns.join(QUIET)
        for _ in range(50):
            loud.ask(call=False)
        assert quiet.ask(lambda: None, call=False) is None
        for _ in range(200):
            assert quiet.ask(lambda: None, call=True) is None
            quiet.began()
            quiet.ended(1, 0)
        for _ in range(50):
            loud.ask(call=True)
        assert quiet.ask(lambda: None, call=True) is None

    run(test())


def test_calls_when_many_at_once_beside_another_uid_then_one_in_each_pause() -> None:
    async def test() -> None:
        turns = Turns()
        loud, quiet = Crowd(turns.join(LOUD)), turns.join(QUIET)
        quiet.ask(lambda: None, call=True)
        for _ in range(12):
            loud.ask(call=True)
        for _ in range(30):
            await asyncio.sleep(THERE_S / 10)
            turns.note(quiet)
            while loud.queue.unbegun:
                loud.queue.began()
        assert [number for number, _ in loud.came] == list(range(12))
        # The first is the only one then, and the second is owed no pause yet.
        assert min(loud.pauses()[1:]) >= CALL_S * 0.999

    run(test())


def test_calls_when_nobody_else_is_there_then_faster() -> None:
    async def test() -> None:
        turns = Turns()
        loud = Crowd(turns.join(LOUD))
        for _ in range(6):
            loud.ask(call=True)
        await asyncio.sleep(1)
        assert [round(pause, 6) for pause in loud.pauses()[1:]] == [round(CALL_S * HURRY, 6)] * 4

    run(test())


def test_calls_when_no_handler_begins_with_them_then_few_are_inside() -> None:
    async def test() -> None:
        turns = Turns()
        loud = Crowd(turns.join(LOUD))
        for _ in range(UNBEGUN_MAX + 2):
            loud.ask(call=True)
        await asyncio.sleep(CALL_S * HURRY * UNBEGUN_MAX)
        assert len(loud.came) == UNBEGUN_MAX
        loud.queue.began()
        await asyncio.sleep(CALL_S * HURRY)
        assert len(loud.came) == UNBEGUN_MAX + 1
        # Not all that looks like a call is one: it is not waited for without end.
        await asyncio.sleep(2 * UNBEGUN_S)
        assert len(loud.came) == UNBEGUN_MAX + 2

    run(test())


def test_connections_when_many_at_once_then_in_order_at_their_pace() -> None:
    async def test() -> None:
        turns = Turns()
        loud, quiet = Crowd(turns.join(LOUD)), turns.join(QUIET)
        for _ in range(5):
            loud.ask(call=False)
        turns.note(quiet)
        await asyncio.sleep(4 * CONNECTION_S)
        assert [number for number, _ in loud.came] == list(range(5))[: len(loud.came)]
        await asyncio.sleep(1)
        assert len(loud.came) == 5

    run(test())


def test_ticket_when_cancelled_then_never_comes_in_and_holds_nobody_up() -> None:
    async def test() -> None:
        turns = Turns()
        loud = Crowd(turns.join(LOUD))
        tickets = [loud.ask(call=False) for _ in range(4)]
        assert tickets[1] is not None
        assert tickets[3] is not None
        tickets[1].cancel()
        tickets[3].cancel()
        tickets[3].cancel()
        await asyncio.sleep(1)
        assert [number for number, _ in loud.came] == [0, 2]

    run(test())


def test_pause_when_its_connection_is_over_then_not_forgotten() -> None:
    """Who connects again and again has one queue all the time."""

    async def test() -> None:
        turns, tickets = Turns(), []
        for _ in range(3):
            queue = turns.join(LOUD)
            tickets.append(queue.ask(lambda: None, call=False))
            turns.leave(queue)
            for uid in range(100, 150):
                turns.leave(turns.join(uid))
        assert [ticket is None for ticket in tickets] == [True, False, False]

    run(test())


def test_uids_when_they_left_then_forgotten() -> None:
    async def test() -> None:
        turns = Turns()
        for uid in range(1000):
            queue = turns.join(uid)
            queue.ask(lambda: None, call=False)
            turns.leave(queue)
            await asyncio.sleep(CONNECTION_S)
        assert len(turns._queues) <= 32

    run(test())


_STEPS = st.lists(
    st.tuples(st.sampled_from(["connection", "call", "begin", "end", "cancel", "wait"]), st.integers(0, 2)),
    max_size=120,
)


class Story:
    """Three uids, to which anything may happen."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.crowds = [Crowd(self.turns.join(uid)) for uid in range(3)]
        self.cancelled: list[set[int]] = [set(), set(), set()]
        self._tickets: list[dict[int, Ticket]] = [{}, {}, {}]

    def connection(self, uid: int) -> None:
        self._ask(uid, call=False)

    def call(self, uid: int) -> None:
        self._ask(uid, call=True)

    def _ask(self, uid: int, *, call: bool) -> None:
        ticket = self.crowds[uid].ask(call=call)
        if ticket is not None:
            self._tickets[uid][self.crowds[uid].asked - 1] = ticket

    def begin(self, uid: int) -> None:
        self.crowds[uid].queue.began()

    def end(self, uid: int) -> None:
        if self.crowds[uid].queue.calls:
            self.crowds[uid].queue.ended(1, 1)

    def cancel(self, uid: int) -> None:
        came = {number for number, _ in self.crowds[uid].came}
        waiting = self._tickets[uid].keys() - came - self.cancelled[uid]
        if waiting:
            number = max(waiting)
            self._tickets[uid][number].cancel()
            self.cancelled[uid].add(number)


@given(_STEPS)
def test_queue_when_anything_happens_then_all_come_in_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    async def test() -> None:
        story = Story()
        for what, uid in steps:
            if what == "wait":
                await asyncio.sleep(CALL_S / 2)
            else:
                getattr(story, what)(uid)
        await asyncio.sleep(120 * (UNBEGUN_S + 3 * CONNECTION_S))
        for uid, crowd in enumerate(story.crowds):
            numbers = [number for number, _ in crowd.came]
            assert numbers == [i for i in range(crowd.asked) if i not in story.cancelled[uid]]
            assert min(crowd.queue.calls, crowd.queue.unbegun) >= 0
            assert not crowd.queue
        assert not story.turns.waiting

    run(test())
