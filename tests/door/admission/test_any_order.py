"""Any events of several users, in any order: each turn comes once, and in the order of the requests.

Tests: ktaskd/door/admission/turns.py
Guards: I12
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from ktaskd.door.admission.prices import UNBEGUN_S
from ktaskd.door.admission.turns import Ticket, Turns
from tests.door.virtual import run

SLICE_S = 0.001

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "call", "begin", "end", "reset", "cancel", "charge", "wait"]),
        st.integers(0, 3),
    ),
    max_size=120,
)


class Story:
    """Four users of two accounts, with any events."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.users = [self.turns.join(uid, uid % 2) for uid in range(4)]
        self.asked: list[list[int]] = [[] for _ in self.users]
        self.came: list[list[int]] = [[] for _ in self.users]
        self._tickets: list[dict[int, Ticket]] = [{} for _ in self.users]
        self._numbers = iter(range(10**6))

    def ask(self, i: int, *, call: bool = False) -> None:
        number = next(self._numbers)
        self.asked[i].append(number)

        def on_turn() -> None:
            self._tickets[i].pop(number, None)
            self.came[i].append(number)

        ticket = self.users[i].ask(on_turn, call=call)
        if ticket is None:
            on_turn()
        else:
            self._tickets[i][number] = ticket

    def call(self, i: int) -> None:
        self.ask(i, call=True)

    def begin(self, i: int) -> None:
        self.users[i].began()

    def end(self, i: int) -> None:
        if self.users[i].calls:
            self.users[i].ended(1, 1, answered=True)

    def reset(self, i: int) -> None:
        if self.users[i].calls:
            self.users[i].was_reset()

    def charge(self, i: int) -> None:
        self.users[i].charge(SLICE_S)

    def cancel(self, i: int) -> None:
        if self._tickets[i]:
            number, ticket = self._tickets[i].popitem()
            ticket.cancel()
            self.asked[i].remove(number)


@settings(deadline=None)
@given(_STEPS)
def test_turns_when_anything_happens_then_all_come_in_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    async def test() -> None:
        story = Story()
        for what, i in steps:
            if what == "wait":
                await asyncio.sleep(SLICE_S)
            else:
                act: Callable[[int], None] = getattr(story, what)
                act(i)
        await asyncio.sleep(120 * UNBEGUN_S)
        assert story.came == story.asked
        for user in story.users:
            assert min(user.calls, user.account.unbegun) >= 0
            assert not user
        assert not story.turns.waiting

    run(test())
